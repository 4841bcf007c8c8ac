/** Conversations with pictures: who takes them, and who refuses them by index. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  type CausalLM,
  DEMO_MODEL,
} from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

let model: CausalLM;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
});
afterAll(() => model.dispose());

describe('a model', () => {
  it('that sees takes messages with their pictures, as its processor does', async () => {
    const folder = goldenModel('qwen3_vl_moe_e');
    await using sees = await AutoModelForImageTextToText.fromPretrained(folder);
    const processor = await AutoProcessor.fromPretrained(folder);
    const image = {
      data: new Uint8Array(3 * 64 * 64).map((_, i) => i),
      width: 64,
      height: 64,
      channels: 3,
    } as const;
    const messages = [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text: 'What?' },
        ],
      },
    ];
    const inputs = await processor.applyChatTemplate(messages, { addGenerationPrompt: true });
    const expected = await sees.generate({ ...inputs, maxNewTokens: 4, doSample: false });
    expect((await sees.generate({ messages, maxNewTokens: 4, doSample: false })).sequences).toEqual(
      expected.sequences,
    );
    const chat = await sees.chat({ maxNewTokens: 4, doSample: false });
    await chat.send(messages[0]?.content ?? '');
    await chat.send('And now?');
    expect(chat.messages).toHaveLength(4);
  });

  it('that sees, opened for text alone, refuses pictures by index', async () => {
    await using blind = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_5_moe_j'));
    for (const type of ['image', 'image_url', 'video']) {
      const content = [
        { type: 'text', text: 'Look: ' },
        { type, [type]: 'x.png' },
      ];
      await expect(blind.generate({ messages: [{ role: 'user', content }] })).rejects.toThrow(
        `messages[0].content[1] is of type "${type}", but the model was opened for text alone`,
      );
    }
  });

  it('of text alone refuses pictures by index', async () => {
    const content = [{ type: 'image', image: 'x.png' }];
    await expect(model.generate({ messages: [{ role: 'user', content }] })).rejects.toThrow(
      /messages\[0\]\.content\[0\]/,
    );
  });
});
