import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AbortError,
  AutoConfig,
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  AutoTokenizer,
  type BaseModel,
  type CausalLM,
  type ImageTextToText,
  InputError,
  resolveRepo,
  TextStreamer,
} from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const TEXT = goldenModel('qwen3_moe_c');
const VL = goldenModel('qwen3_vl_moe_e');
const quiet = { onWarning: () => {} };
const inputIds = [[5, 6, 7]];

let model: CausalLM;
let base: BaseModel;
let vl: ImageTextToText;
beforeAll(async () => {
  [model, base, vl] = await Promise.all([
    AutoModelForCausalLM.fromPretrained(TEXT, quiet),
    AutoModel.fromPretrained(TEXT, quiet),
    AutoModelForImageTextToText.fromPretrained(VL, quiet),
  ]);
});
afterAll(() => Promise.all([model, base, vl].map((one) => one.dispose())));

/** Every call that takes options, with what it needs besides. */
type Call = (options: object, ...more: never[]) => Promise<unknown>;
const CALLS: Record<string, Call> = {
  'AutoConfig.fromPretrained': (options, ...more) => AutoConfig.fromPretrained(TEXT, options, ...more),
  'AutoTokenizer.fromPretrained': (options, ...more) => AutoTokenizer.fromPretrained(TEXT, options, ...more),
  'AutoModel.fromPretrained': (options, ...more) => AutoModel.fromPretrained(TEXT, options, ...more),
  'AutoModelForCausalLM.fromPretrained': (options, ...more) =>
    AutoModelForCausalLM.fromPretrained(TEXT, options, ...more),
  'AutoModelForImageTextToText.fromPretrained': (options, ...more) =>
    AutoModelForImageTextToText.fromPretrained(VL, options, ...more),
  'AutoProcessor.fromPretrained': (options, ...more) => AutoProcessor.fromPretrained(VL, options, ...more),
  resolveRepo: (options, ...more) => resolveRepo(TEXT, options, ...more),
  'forward of a text model': (options, ...more) => model.forward({ inputIds, ...options }, ...more),
  'forward of a bare model': (options, ...more) => base.forward({ inputIds, ...options }, ...more),
  'forward of an image-text model': (options, ...more) => vl.forward({ inputIds, ...options }, ...more),
  'generate of a text model': (options, ...more) => model.generate({ inputIds, ...options }, ...more),
  'generate of an image-text model': (options, ...more) => vl.generate({ inputIds, ...options }, ...more),
  compile: (options, ...more) => model.compile(options, ...more),
  measureExperts: (options, ...more) => model.measureExperts(options, ...more),
  processor: async (options, ...more) => {
    const processor = await AutoProcessor.fromPretrained(VL);
    return processor.process({ text: 'a', ...options }, ...more);
  },
};

describe.each(Object.entries(CALLS))('%s', (_, call) => {
  it('refuses an option that nobody knows', async () => {
    const refusal = call({ zzzz: 1 });
    await expect(refusal).rejects.toThrow(/"zzzz" is not an option; options are .*signal/);
    await expect(refusal).rejects.toBeInstanceOf(InputError);
    await call({ zzzz: undefined });
  });

  it('refuses an argument after its options', async () => {
    await expect(call({}, { doSample: true } as never)).rejects.toThrow(
      /takes no further argument, but got \{"doSample":true\}/,
    );
  });

  it('takes nothing else for a signal', async () => {
    await expect(call({ signal: 'stop' })).rejects.toThrow(/signal is "stop"; expected an AbortSignal/);
  });

  it('rejects with an AbortError that has the reason as its cause', async () => {
    const reason = new TypeError('mine');
    const error = await call({ signal: AbortSignal.abort(reason) }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AbortError);
    expect((error as Error).cause).toBe(reason);
  });

  it('does so as well where the signal fires meanwhile, if it does not finish before', async () => {
    for (const turns of [0, 1, 3, 8]) {
      const controller = new AbortController();
      const running = call({ signal: controller.signal }).then(
        async (made) => (made as { dispose?: () => Promise<void> })?.dispose?.(),
        (error: unknown) => {
          expect(error).toBeInstanceOf(AbortError);
          expect((error as Error).cause).toBe('enough');
        },
      );
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
      controller.abort('enough');
      await running;
    }
  });
});

it.each<[string, object, string]>([
  ['AutoModelForCausalLM.fromPretrained', { local_files_only: true }, 'localFilesOnly'],
  ['AutoModelForCausalLM.fromPretrained', { torch_dtype: 'float32' }, 'dtype'],
  ['AutoModelForCausalLM.fromPretrained', { cache_dir: '/tmp' }, 'cacheDir'],
  ['AutoModelForCausalLM.fromPretrained', { load_in_4bit: true }, 'quantization'],
  ['AutoModelForCausalLM.fromPretrained', { use_auth_token: 'x' }, 'token'],
  ['AutoModelForCausalLM.fromPretrained', { n_ctx: 4096 }, 'maxCacheLength'],
  ['AutoProcessor.fromPretrained', { max_pixels: 4096 }, 'maxPixels'],
  ['generate of a text model', { max_new_tokens: 3 }, 'maxNewTokens'],
  ['generate of an image-text model', { pixel_values: 1 }, 'pixelValues'],
  ['forward of a text model', { output_hidden_states: true }, 'outputHiddenStates'],
  ['forward of an image-text model', { image_grid_thw: [] }, 'imageGridThw'],
  ['compile', { token_counts: [1] }, 'tokenCounts'],
  ['processor', { add_special_tokens: false }, 'addSpecialTokens'],
])('%s leads %j to the right name', async (name, options, guess) => {
  await expect((CALLS[name] as Call)(options)).rejects.toThrow(`Did you mean "${guess}"?`);
});

it.each<[unknown, RegExp]>([
  [5, /config is 5; expected fields of config\.json/],
  [[1], /config is \[1\]; expected fields/],
  [
    { numHiddenLayers: 2 },
    /"numHiddenLayers" is no field of config\.json\. Did you mean "num_hidden_layers"\?/,
  ],
])('config: %j is refused', async (config, message) => {
  await expect(AutoConfig.fromPretrained(TEXT, { config: config as never })).rejects.toThrow(message);
});

it.each<[object, RegExp]>([
  [{ dtype: 'bf16' }, /dtype is "bf16"; expected auto, .*\. Did you mean "bfloat16"\?$/],
  [{ cacheDtype: 'half' }, /cacheDtype is "half"; expected float32, .*Did you mean "float16"\?$/],
  [{ dtype: 'q4' }, /float16\. Fewer bits a weight are quantization/],
  [
    { quantization: 4 },
    /quantization is 4; expected int8, int4, int4-asymmetric, or an object such as \{ experts/,
  ],
  [{ quantization: null }, /quantization is null; expected int8/],
])('%j names the right value', async (options, message) => {
  await expect(AutoModelForCausalLM.fromPretrained(TEXT, options)).rejects.toThrow(message);
});

describe('calls without options', () => {
  it('refuse arguments as well', async () => {
    expect(() => model.setExpertsImplementation('eager', 'text' as never)).toThrow(InputError);
    await expect(model.dispose({ force: true } as never)).rejects.toThrow(
      /dispose takes no further argument/,
    );
    await model.forward({ inputIds });
  });

  it.each([undefined, null, 'text', [[1, 2]], 3])('forward and generate take no %j', async (argument) => {
    for (const one of [model, vl]) {
      await expect(one.forward(argument as never)).rejects.toBeInstanceOf(InputError);
      await expect(one.generate(argument as never)).rejects.toBeInstanceOf(InputError);
    }
    await expect(base.forward(argument as never)).rejects.toBeInstanceOf(InputError);
  });
});

it('a text streamer knows its options', async () => {
  const tokenizer = await AutoTokenizer.fromPretrained(TEXT);
  expect(() => new TextStreamer(tokenizer, { skip_prompt: true } as never)).toThrow(
    /Did you mean "skipPrompt"/,
  );
  expect(() => new TextStreamer(tokenizer, { write: 3 } as never)).toThrow(/write is 3; expected a function/);
});

it('typed arrays serve as prompts everywhere', async () => {
  const typed = [Int32Array.from([5, 6, 7])];
  const [plain, own] = await Promise.all([inputIds, typed].map((ids) => model.forward({ inputIds: ids })));
  expect(own?.logits.data).toEqual(plain?.logits.data);
  expect((await vl.generate({ inputIds: typed, maxNewTokens: 2 })).sequences[0]?.slice(0, 3)).toEqual([
    5, 6, 7,
  ]);
});

it('a dtype of few bits is led to quantization, and a promise to await', async () => {
  const asked = AutoModelForCausalLM.fromPretrained('demo', { dtype: 'q4' as never });
  await expect(asked).rejects.toThrow(/dtype is "q4"; expected auto, .*quantization: 'int8' or 'int4'/);
  const model = await AutoModelForCausalLM.fromPretrained('demo');
  const inputIds = Promise.resolve([[1]]) as never;
  await expect(model.generate({ inputIds })).rejects.toThrow(/inputIds is a promise; expected/);
  await model.dispose();
});
