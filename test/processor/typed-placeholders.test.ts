/** Placeholders in words, which are not those of pictures. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  type ImageTextToText,
  InputError,
  type Processor,
} from '../../src/index.ts';
import { refuseTyped } from '../../src/processor/typed-placeholders.ts';
import { FOLDER, golden } from '../models/qwen3_vl_moe/goldens.ts';

const PICTURE = { type: 'image', image: join(FOLDER, 'images/gradient.png') };
const GREEDY = { doSample: false, eosTokenId: [], maxNewTokens: 2 };

let model: ImageTextToText;
let processor: Processor;
beforeAll(async () => {
  model = await AutoModelForImageTextToText.fromPretrained(FOLDER, {
    dtype: 'float32',
    threads: 2,
  });
  processor = await AutoProcessor.fromPretrained(FOLDER);
});
afterAll(() => model.dispose());

describe('a placeholder in the words of a conversation', () => {
  const said = (text: string) => [{ role: 'user', content: [{ type: 'text', text }, PICTURE] }];

  it.each([
    ['image', '<|image_pad|>', 'a picture'],
    ['video', '<|video_pad|>', 'a video'],
    ['audio', '<|audio_pad|>', 'a sound'],
  ])('of kind %s is refused by its place, and takes no picture', async (kind, placeholder, what) => {
    const message = `messages[0].content[0].text holds ${placeholder}, which the model reads as the place of ${what}`;
    for (const answer of [
      processor.applyChatTemplate(said(`What does ${placeholder} mean?`)),
      model.generate({ messages: said(placeholder), ...GREEDY }),
    ]) {
      await expect(answer).rejects.toThrow(InputError);
      await expect(answer).rejects.toThrow(message);
      await expect(answer).rejects.toThrow(`{ type: '${kind}', ${kind} }`);
    }
  });

  it('is found wherever a template may read it', async () => {
    const typed = 'see <|image_pad|>';
    const places: [string, object[], Record<string, unknown>?][] = [
      ['messages[0].content', [{ role: 'user', content: typed }]],
      [
        'messages[1].content',
        [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: typed },
          { role: 'user', content: 'And?' },
        ],
      ],
      [
        'messages[1].reasoning_content',
        [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hello', reasoning_content: typed },
        ],
      ],
      [
        'messages[1].tool_calls[0].function.arguments.path',
        [
          { role: 'user', content: 'Hi' },
          {
            role: 'assistant',
            content: '',
            tool_calls: [
              {
                type: 'function',
                function: { name: 'f', arguments: { path: typed } },
              },
            ],
          },
        ],
      ],
      ['a name in messages[0].extra', [{ role: 'user', content: 'Hi', extra: { [typed]: 1 } }]],
      [
        'tools[0].function.description',
        [{ role: 'user', content: 'Hi' }],
        {
          tools: [{ type: 'function', function: { name: 'f', description: typed } }],
        },
      ],
      ['note', [{ role: 'user', content: 'Hi' }], { note: typed }],
    ];
    for (const [where, messages, options = {}] of places)
      await expect(processor.applyChatTemplate(messages as never, options)).rejects.toThrow(
        `${where} holds <|image_pad|>`,
      );
  });

  it('is refused where it comes together from two parts', async () => {
    const content = [{ type: 'text', text: '<|image_' }, { type: 'text', text: 'pad|>' }, PICTURE];
    await expect(processor.applyChatTemplate([{ role: 'user', content }])).rejects.toThrow(
      /the text has 2 image placeholders .*, but 1 image was given/,
    );
  });

  it('ends no conversation', async () => {
    const chat = await model.chat(GREEDY as never);
    await expect(chat.send('What does <|image_pad|> do?')).rejects.toThrow(
      /messages\[0\]\.content holds <\|image_pad\|>/,
    );
    expect(chat.messages).toEqual([]);
    await chat.send('And < |image_pad| >?');
    expect(chat.messages).toHaveLength(2);
  });

  it('is looked for at any depth and in cycles', () => {
    let deep: unknown = '<|image_pad|>';
    for (let i = 0; i < 100_000; i++) deep = [deep];
    expect(() => refuseTyped({ deep })).toThrow(/^deep\[0\]\[0\]/);
    const round: Record<string, unknown> = { bytes: new Uint8Array(8) };
    round.self = round;
    expect(() =>
      refuseTyped({
        round,
        many: Array.from({ length: 200_000 }, () => 'word'),
      }),
    ).not.toThrow();
  });
});

describe('a placeholder in a prompt of text', () => {
  it('is refused by its place', async () => {
    await expect(model.generate({ prompt: 'see <|image_pad|>', ...GREEDY })).rejects.toThrow(
      /^prompt holds <\|image_pad\|>/,
    );
    await expect(model.generate({ prompt: ['Hi', 'see <|video_pad|>'], ...GREEDY })).rejects.toThrow(
      /^prompt\[1\] holds <\|video_pad\|>/,
    );
  });
});

describe('a placeholder among ids', () => {
  const seen = golden.prompts.find(({ images }) => images.length > 0) as (typeof golden.prompts)[number];
  const [pad, words] = [1002, [5, 6, 7]];

  it('is refused without a picture, with the way to have it as a token', async () => {
    await expect(model.forward({ inputIds: [[...words, pad]] })).rejects.toThrow(
      /inputIds hold 1 image placeholder, but imageGridThw stands for 0; .* have a 0 for it in mmTokenTypeIds/,
    );
  });

  it('is a token like any other where mmTokenTypeIds says so', async () => {
    const ids = [...words, pad, ...words];
    const { logits } = await model.forward({
      inputIds: [ids],
      mmTokenTypeIds: [ids.map(() => 0)],
    });
    // What transformers gives for these ids without a picture.
    const last = (logits.data as Float32Array).subarray(-(logits.dims[2] as number)).slice(0, 4);
    const expected = [-0.60848159, 2.60126305, -0.80642718, -0.99568701];
    expect([...last]).toEqual(expected.map((value) => expect.closeTo(value, 4)));
    const { sequences } = await model.generate({
      inputIds: [ids],
      mmTokenTypeIds: [ids.map(() => 0)],
      ...GREEDY,
    });
    expect(sequences[0]).toHaveLength(ids.length + 2);
  });

  it('behind pictures, as a model may say it, leaves these where they are', async () => {
    const images = seen.images.map((name) => join(FOLDER, `images/${name}.png`));
    const { attentionMask: _, ...inputs } = await processor({
      text: seen.text,
      images,
    });
    const types = inputs.mmTokenTypeIds[0] as number[];
    const inputIds = [[...seen.input_ids, pad, ...words]];
    await expect(model.forward({ ...inputs, inputIds })).rejects.toThrow(
      /mmTokenTypeIds: row 0 has \d+ entries, its prompt has \d+\. Put a 0 for each token that follows/,
    );
    const mmTokenTypeIds = [[...types, 0, 0, 0, 0]];
    const { logits } = await model.forward({
      ...inputs,
      inputIds,
      mmTokenTypeIds,
    });
    const before = await model.forward(inputs);
    const size = before.logits.data.length;
    expect([...(logits.data as Float32Array).subarray(0, size)]).toEqual(
      [...(before.logits.data as Float32Array)].map((value) => expect.closeTo(value, 4)),
    );
  });

  it('that the model says goes on as in one answer when the answer is read as a prompt', async () => {
    const images = seen.images.map((name) => join(FOLDER, `images/${name}.png`));
    const { attentionMask: _, ...inputs } = await processor({ text: seen.text, images });
    const greedy = { ...GREEDY, repetitionPenalty: 1 };
    const { length } = seen.input_ids;
    const all = Array.from({ length: model.vocabSize }, (_, id) => id);
    const prefixAllowedTokensFn = (ids: readonly number[]) => (ids.length === length + 1 ? [pad] : all);
    const { sequences } = await model.generate({
      ...inputs,
      ...greedy,
      prefixAllowedTokensFn,
      maxNewTokens: 6,
    });
    const answer = sequences[0] as number[];
    expect(answer[length + 1]).toBe(pad);
    const told = answer.slice(0, length + 3);
    const mmTokenTypeIds = [[...(inputs.mmTokenTypeIds[0] as number[]), 0, 0, 0]];
    const rest = await model.generate({
      ...inputs,
      ...greedy,
      inputIds: [told],
      mmTokenTypeIds,
      maxNewTokens: 3,
    });
    expect(rest.sequences).toEqual([answer]);
    const { mmTokenTypeIds: __, ...untold } = inputs;
    await expect(model.generate({ ...untold, ...greedy, inputIds: [told] })).rejects.toThrow(
      /inputIds hold \d+ image placeholders, but imageGridThw stands for \d+; .* of tokens that a model has said, have a 0/,
    );
  });

  it.each([
    [[[0, 0]], /1 entries|row 0 has 2 entries, its prompt has 3/],
    [
      [
        [0, 0, 0],
        [0, 0, 0],
      ],
      /mmTokenTypeIds has 2 rows, inputIds has 1/,
    ],
    [[[0, 4, 0]], /mmTokenTypeIds: row 0, position 1 is 4; expected 0 \(text\), 1 \(image\)/],
    [[[0, 1, 0]], /row 0, position 1 is 1; expected 0: token 6 there is no placeholder/],
    [7, /mmTokenTypeIds is 7; expected a list of rows/],
  ])('has kinds that fit the prompt: %o', async (mmTokenTypeIds, message) => {
    await expect(
      model.forward({
        inputIds: [words],
        mmTokenTypeIds: mmTokenTypeIds as never,
      }),
    ).rejects.toThrow(message);
  });
});
