import {
  AutoTokenizer,
  type CausalLM,
  type CausalLMGenerateOptions,
  type Streamer,
} from '../../src/index.ts';
import { DEMO_FOLDER } from './goldens.ts';

/**
 * A model that says what it is told to, token by token, through the tokenizer and the streamers of the demo: for what the demo itself does not
 * do, such as reasoning. `asked` are the options of each call.
 */
export async function scriptedModel(...answers: string[]) {
  const tokenizer = await AutoTokenizer.fromPretrained(DEMO_FOLDER);
  const asked: CausalLMGenerateOptions[] = [];
  const model = {
    nameOrPath: 'scripted',
    contextLength: 512,
    generationDefaults: {},
    tokenizer: async () => tokenizer,
    generate: async (options: CausalLMGenerateOptions) => {
      asked.push(options);
      const text = answers[asked.length - 1] ?? '';
      const prompt = tokenizer.applyChatTemplate(options.messages ?? [], { addGenerationPrompt: true });
      const [ids = []] = prompt.inputIds;
      const all = tokenizer.encode(text);
      const newIds = all.slice(0, options.maxNewTokens ?? all.length);
      const streamer = options.streamer as Streamer;
      await streamer.put(ids);
      for (const id of newIds) await streamer.put([id]);
      await streamer.end();
      return {
        sequences: [[...ids, ...newIds]],
        finishReasons: [newIds.length < all.length ? 'length' : 'eos'],
        stats: { promptTokens: ids.length, cachedTokens: 4, newTokens: newIds.length },
      };
    },
  };
  return { model: model as unknown as CausalLM, tokenizer, asked };
}
