import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Stop } from '../../src/cli/io.ts';
import { runCommandLine } from '../../src/cli/program.ts';
import { generationOptions, unusedSampling } from '../../src/cli/sampling-options.ts';
import { AutoModelForImageTextToText, AutoProcessor, CausalLM } from '../../src/index.ts';
import { DEMO_FOLDER, type GoldenModel, goldenModel, readJson } from '../helpers/goldens.ts';
import { wav } from '../media/wav.ts';
import { run } from './capture.ts';

/** A run that must succeed in silence. */
async function generate(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await run(['generate', ...args]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}
const json = async (...args: string[]) => JSON.parse(await generate(...args, '--json'));
const expected = (model: string) => readJson<GoldenModel>(goldenModel(model), 'expected.json');
/** How the goldens were made. */
const plain = ['--dtype', 'float32', '--temperature', '0', '--repetition-penalty', '1', '--ignore-eos'];

describe('raw ids', () => {
  const { prompts, batch } = expected('qwen3_moe_c');

  test.each(['eager', 'batched_mm', 'grouped_mm'])('%s generates the expected ids', async (experts) => {
    const model = ['--model', goldenModel('qwen3_moe_c'), '--experts', experts, ...plain];
    for (const prompt of prompts) {
      const ids = await generate(
        ...model,
        '--input-ids',
        prompt.input_ids.join(','),
        '--max-new-tokens',
        '24',
      );
      expect(ids).toBe(`${prompt.greedy.tokens.join(',')}\n`);
    }
  });

  const rows = (batch?.input_ids ?? []).map((ids, row) =>
    ids.filter((_, i) => batch?.attention_mask[row]?.[i] === 1),
  );
  const asBatch = [
    '--model',
    goldenModel('qwen3_moe_c'),
    ...rows.flatMap((ids) => ['--input-ids', ids.join(',')]),
  ];

  test('several rows are a batch, printed a line each', async () => {
    const lines = (batch?.tokens ?? []).map((ids) => `${ids.join(',')}\n`);
    expect(lines.length).toBe(2);
    expect(await generate(...asBatch, ...plain, '--max-new-tokens', '24')).toBe(lines.join(''));
  });

  test('--json has ids, text, backend and statistics of a batch', async () => {
    const report = await json(...asBatch, ...plain, '--max-new-tokens', '24', '--experts', 'eager');
    expect(Object.keys(report)).toEqual(['sequences', 'finishReasons', 'text', 'experts', 'stats']);
    expect(report.sequences).toEqual(batch?.tokens);
    expect(report.text).toEqual([expect.any(String), expect.any(String)]);
    expect(report.experts).toEqual({ '': 'eager' });
    expect(report.stats).toMatchObject({ newTokens: 48, promptTokens: rows.flat().length });
    expect(report.stats.expertsCalls.eager).toBeGreaterThan(0);
  });

  test('need no tokenizer', async () => {
    const model = [
      '--model',
      goldenModel('qwen2_moe_b'),
      '--input-ids',
      '1,2',
      ...plain,
      '--max-new-tokens',
      '3',
    ];
    const { stdout, stderr } = await run(['generate', ...model, '--json']);
    expect(stderr).toMatch(/^warning: the output has no text: .*tokenizer/);
    const { sequences, text } = JSON.parse(stdout);
    expect(text).toEqual([null]);
    expect(await generate(...model)).toBe(`${sequences[0].join(',')}\n`);
  });
});

test('an image-text model goes on with text, each part on its own backend', async () => {
  const [prompt] = readJson<{
    prompts: { images: unknown[]; input_ids: number[]; greedy: { tokens: number[] } }[];
  }>(goldenModel('qwen3_vl_moe_e'), 'expected.json').prompts.filter(({ images }) => images.length === 0);
  const args = ['--model', goldenModel('qwen3_vl_moe_e'), '--input-ids', String(prompt?.input_ids), ...plain];
  const experts = ['--experts', 'text_config=grouped_mm,vision_config=eager'];
  const report = await json(...args, ...experts, '--max-new-tokens', '12');
  expect(report.sequences).toEqual([prompt?.greedy.tokens]);
  expect(report.experts).toEqual({ '': 'grouped_mm', text_config: 'grouped_mm', vision_config: 'eager' });
});

describe('pictures', () => {
  const vl = goldenModel('qwen3_vl_moe_e');
  const picture = (name: string) => join(vl, 'images', `${name}.png`);
  const [chat] = readJson<{ prompts: { input_ids: number[]; text: string; greedy: { tokens: number[] } }[] }>(
    vl,
    'expected.json',
  ).prompts;
  const args = ['--model', vl, '--image', picture('gradient'), ...plain, '--max-new-tokens', '12'];

  test('belong to a message', async () => {
    const report = await json(...args, '--chat', 'What is in picture 3?');
    expect(report.sequences).toEqual([chat?.greedy.tokens]);
  });

  test('come before a raw prompt, or where it marks them', async () => {
    const marked = chat?.text as string;
    expect((await json(...args, '--prompt', marked)).sequences).toEqual([chat?.greedy.tokens]);
    const before = await run(['generate', ...args, '--prompt', 'A gradient', '--stats']);
    expect([before.exitCode, before.stderr]).toEqual([
      0,
      expect.stringMatching(/gradient\.png: grid 1 × 4 × 6, 6 tokens/),
    ]);
  });

  test.each([
    [['--model', vl, '--image', picture('none'), '--prompt', 'a'], 1, /none\.png/],
    [['--image', picture('gradient'), '--prompt', 'a'], 1, /text model; it takes no --image/],
    [
      ['--model', vl, '--prompt', 'a <|image_pad|>'],
      1,
      /the prompt holds <\|image_pad\|>, which .* place of a picture, .*Give the file with --image; .* such as <\| image_pad\|>/,
    ],
    [['--model', vl, '--chat', '<|image_pad|>'], 1, /the message holds <\|image_pad\|>, .* with --image; /],
    [
      ['--model', vl, '--prompt', '<|video_pad|>'],
      1,
      /place of a video, .*The command line takes no videos; /,
    ],
    [
      ['--model', vl, '--image', picture('gradient'), '--chat', 'in <|image_pad|>?'],
      1,
      /the message holds <\|image_pad\|>/,
    ],
    [
      ['--model', vl, '--prompt', 'a', '--guidance-scale', '2', '--negative-prompt', '<|image_pad|>'],
      1,
      /the negative prompt holds <\|image_pad\|>, .* place of a picture, .*It takes words alone; /,
    ],
    [['--image', picture('gradient'), '--input-ids', '1'], 2, /--image and --input-ids exclude each other/],
  ])('that cannot be used are an error: %j', async (line, exitCode, message) => {
    const result = await run(['generate', ...line]);
    expect([result.exitCode, result.stderr]).toEqual([exitCode, expect.stringMatching(message)]);
  });
});

describe('sounds', () => {
  const omni = goldenModel('qwen3_omni_moe_l');
  const samples = Float32Array.from({ length: 8000 }, (_, i) => 0.2 * Math.sin(i / 7));
  const file = join(tmpdir(), `switchyard-sound-${process.pid}.wav`);
  beforeAll(() => writeFileSync(file, wav([samples], 16_000, 16)));
  afterAll(() => rmSync(file));
  const args = ['--model', omni, '--audio', file, ...plain, '--max-new-tokens', '6'];

  test('belong to a message, or come before a raw prompt', async () => {
    const model = await AutoModelForImageTextToText.fromPretrained(omni);
    const processor = await AutoProcessor.fromPretrained(omni);
    const answer = async (text: string) => {
      const inputs = await processor({ text, audio: file });
      const { sequences } = await model.generate({
        ...inputs,
        doSample: false,
        eosTokenId: [],
        maxNewTokens: 6,
      });
      return sequences.map((row) => row.slice((inputs.inputIds[0] as number[]).length));
    };
    const { audioMark } = processor;
    expect((await json(...args, '--prompt', 'Who')).sequences).toEqual(await answer(`${audioMark}Who`));
    expect((await json(...args, '--prompt', `Who ${audioMark}`)).sequences).toEqual(
      await answer(`Who ${audioMark}`),
    );
    const turn = `<|im_start|>user\n${audioMark}Who speaks?<|im_end|>\n<|im_start|>assistant\n`;
    expect((await json(...args, '--chat', 'Who speaks?')).sequences).toEqual(await answer(turn));
    await model.dispose();
  });

  test.each([
    [['--model', goldenModel('qwen3_vl_moe_e'), '--audio', file, '--prompt', 'a'], 1, /does not hear/],
    [['--audio', file, '--prompt', 'a'], 1, /text model; it takes no --audio/],
    [['--audio', file, '--input-ids', '1'], 2, /--audio and --input-ids exclude each other/],
    [['--model', omni, '--audio', 'none.wav', '--prompt', 'a'], 1, /none\.wav.*no such file/],
  ])('that cannot be used are an error: %j', async (line, exitCode, message) => {
    const result = await run(['generate', ...line]);
    expect([result.exitCode, result.stderr]).toEqual([exitCode, expect.stringMatching(message)]);
  });
});

describe('the demo model', () => {
  const greedy = ['--temperature', '0', '--max-new-tokens', '16'];

  test('continues a prompt', async () => {
    const text = await generate('--prompt', 'In the beginning', ...greedy);
    expect(text).toMatch(/^[ ,]\S.*\n$/s);
    expect((await json('--prompt', 'In the beginning', ...greedy)).text).toEqual([text.slice(0, -1)]);
  });

  test('reads the prompt from stdin, less the newline at its end', async () => {
    const { stdout } = await run(['generate', ...greedy], { stdin: 'In the beginning\n' });
    expect(stdout).toBe(await generate('--prompt', 'In the beginning', ...greedy));
  });

  test('takes the prompt by any name', async () => {
    const text = await generate('--prompt', 'In the beginning', ...greedy);
    const short = ['-m', DEMO_FOLDER, '--temperature', '0', '-n', '16'];
    expect(await generate('In the beginning', ...short)).toBe(text);
    expect(await generate('-p', 'In the beginning', ...short)).toBe(text);
    const file = join(mkdtempSync(join(tmpdir(), 'switchyard-')), 'prompt.txt');
    writeFileSync(file, 'In the beginning\n');
    expect(await generate('--prompt-file', file, ...short)).toBe(text);
  });

  test('puts what is piped in behind the prompt or message', async () => {
    const joined = await generate('--prompt', 'In the beginning\n\nGod', ...greedy);
    const { stdout } = await run(['generate', '--prompt', 'In the beginning', ...greedy], { stdin: 'God\n' });
    expect(stdout).toBe(joined);
    expect((await run(['generate', 'In the beginning', ...greedy], { stdin: '' })).stdout).toBe(
      await generate('--prompt', 'In the beginning', ...greedy),
    );
    const asked = await run(['generate', '--chat', 'Speak of', ...greedy], { stdin: 'Moses.' });
    expect(asked.stdout).toBe(await generate('--chat', 'Speak of\n\nMoses.', ...greedy));
  });

  test('is told what to be, and not to think', async () => {
    const begin =
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSpeak.<|im_end|>\n<|im_start|>assistant\n';
    const answer = await generate('--prompt', begin, ...greedy);
    expect(await generate('--system', 'Be brief.', '--chat', 'Speak.', ...greedy)).toBe(answer);
    expect(await generate('Speak.', '--system', 'Be brief.', '--no-think', ...greedy)).toBe(answer);
    const { text } = await json('Speak.', '--no-think', ...greedy);
    expect(text).toEqual([(await generate('--chat', 'Speak.', ...greedy)).slice(0, -1)]);
  });

  test('ends before a text, and tells log-probabilities', async () => {
    const whole = (await generate('In the beginning', ...greedy)).slice(0, -1);
    const stop = whole.slice(8, 12);
    const args = ['In the beginning', ...greedy, '--stop', 'nowhere', '--stop', stop];
    expect(await generate(...args)).toBe(`${whole.slice(0, whole.indexOf(stop))}\n`);
    const report = await json(...args, '--logprobs', '2');
    expect(report.stopStrings).toEqual([stop]);
    expect(report.finishReasons).toEqual(['stop']);
    expect(report.logprobs[0]).toHaveLength(report.stats.newTokens);
    expect(report.logprobs[0][0]).toMatchObject({ text: expect.any(String), top: [{}, {}] });
    expect(report.logprobs[0][0].top[0].logprob).toBe(report.logprobs[0][0].logprob);
  });

  test('answers a message through its chat template, and leaves out the end token', async () => {
    const answer = await generate(
      '--chat',
      'Speak of Moses.',
      '--temperature',
      '0',
      '--max-new-tokens',
      '60',
    );
    const rendered = '<|im_start|>user\nSpeak of Moses.<|im_end|>\n<|im_start|>assistant\n';
    expect(await generate('--prompt', rendered, '--temperature', '0', '--max-new-tokens', '60')).toBe(answer);
    expect(answer).toContain('Moses');
    expect(answer).not.toContain('<|im_end|>');
  });

  test('repeats itself under one seed only', async () => {
    const sample = (seed: string) =>
      generate('--prompt', 'And', '--temperature', '1.5', '-n', '24', '--seed', seed);
    const [first, again, other] = [await sample('1'), await sample('1'), await sample('2')];
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test('warns on a line of its own where its text was cut', async () => {
    const both = new PassThrough();
    const stop = new AbortController().signal;
    const stdin = Object.assign(Readable.from([]), { isTTY: true });
    const args = ['generate', 'In the beginning', '--ignore-eos', '--temperature', '0'];
    await runCommandLine(args, { stdin, stdout: both, stderr: both, stop });
    expect(String(both.read())).toMatch(/\nwarning: generation stopped after 256 new tokens, .*-n.*\n$/);
  });

  test('--stats goes to stderr and changes nothing on stdout', async () => {
    const args = ['generate', '--prompt', 'In the beginning', ...greedy, '--experts', '=batched_mm'];
    const { exitCode, stdout, stderr } = await run([...args, '--stats']);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: (await run(args)).stdout });
    expect(stderr).toMatch(/^experts +batched_mm$/m);
    expect(stderr).toMatch(/^MoE calls +80 by batched_mm$/m);
    expect(stderr).toMatch(/^weights +bfloat16: 16\.00 bits each, \d.* for a decoded token$/m);
    expect(stderr).toMatch(/^prompt +3 tokens in [\d.]+ s, [\d.]+ tokens\/s$/m);
    expect(stderr).toMatch(/^generated +16 tokens in /m);
  });
});

describe('generation options', () => {
  test('are none when nothing is asked for: the model and the library have their own', () => {
    expect(generationOptions({})).toEqual({});
    expect(generationOptions({ maxNewTokens: 5 })).toEqual({ maxNewTokens: 5 });
  });

  test('sample when asked for a temperature; the others leave that to the model', () => {
    const warm = { temperature: 0.5, topP: 0.9 };
    expect(generationOptions(warm)).toEqual({ doSample: true, ...warm });
    for (const flags of [{ topK: 0 }, { topP: 0.9 }, { minP: 0.1 }])
      expect(generationOptions(flags)).toEqual(flags);
  });

  test('are greedy at temperature 0, whatever else is given', () => {
    const flags = { temperature: 0, topK: 5, topP: 0.5, minP: 0.1, seed: 0, repetitionPenalty: 1.1 };
    expect(generationOptions(flags)).toEqual({
      doSample: false,
      seed: 0,
      repetitionPenalty: 1.1,
    });
  });

  test.each([
    [{ topK: 0, topP: 0.5, minP: 0.1, temperature: 0 }, '--top-k and --top-p and --min-p have no effect at'],
    [{ topP: 0.5, temperature: 0 }, '--top-p has no effect at --temperature 0'],
    [{ topP: 0.5, temperature: 1 }, undefined],
    [{ topP: 0.5 }, undefined],
    [{ seed: 5, temperature: 0 }, undefined],
  ] as const)('%j: without effect or not', (flags, warning) => {
    const said = unusedSampling(flags);
    if (warning) expect(said).toContain(warning);
    else expect(said).toBeUndefined();
  });

  test('tell of those without effect, whatever command they are of', async () => {
    const flags = ['--top-k', '3', '-n', '2'];
    const cold = ['--temperature', '0', ...flags];
    const { stderr } = await run(['generate', '-p', 'Once', ...cold]);
    expect(stderr).toContain('warning: --top-k has no effect at --temperature 0');
    const chat = await run(['chat', ...cold], { stdin: 'Hi\n' });
    expect([chat.exitCode, chat.stderr]).toEqual([
      0,
      expect.stringContaining('warning: --top-k has no effect'),
    ]);
    // A model that draws no tokens by itself.
    const model = ['--model', goldenModel('qwen3_moe_d')];
    const greedy = await run(['generate', ...model, '--input-ids', '1,2', ...flags]);
    expect([greedy.exitCode, greedy.stderr]).toEqual([
      1,
      expect.stringMatching(/topK is 3, which has no effect without doSample: true \(--temperature\)/),
    ]);
  });

  test('without end tokens on --ignore-eos', () => {
    expect(generationOptions({ ignoreEos: true })).toEqual({ eosTokenId: [] });
  });
});

describe('--compile', () => {
  test('measures, tells the choices, and reads them the next time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'switchyard-'));
    vi.stubEnv('SWITCHYARD_CACHE', folder);
    try {
      const args = [
        'generate',
        '--model',
        goldenModel('qwen3_moe_d'),
        '--input-ids',
        '1,2',
        '--max-new-tokens',
        '2',
      ];
      const compile = ['--compile', 'max-autotune', '--stats'];
      const first = await run([...args, ...compile]);
      expect(first.exitCode).toBe(0);
      expect(first.stderr).toMatch(/^compile +max-autotune$/m);
      expect(first.stderr).toMatch(/^tuned +1 \w+, 2 \w+, .*\(tokens and backend, measured\)$/m);
      expect((await run([...args, ...compile])).stderr).toMatch(/^tuned .*from the cache\)$/m);
      expect((await run([...args, '--compile', '--stats'])).stderr).not.toMatch(/^(compile|tuned)/m);
    } finally {
      vi.unstubAllEnvs();
      rmSync(folder, { recursive: true });
    }
  });

  test('refuses an unknown mode and lists the others', async () => {
    const { exitCode, stderr } = await run(['generate', '--compile', 'max-autotun', '--prompt', 'a']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('expected one of default, reduce-overhead, max-autotune');
    expect(stderr).toContain('Did you mean "max-autotune"?');
  });
});

describe('a stopped run', () => {
  test('says in JSON what it has', async () => {
    const stop = new AbortController();
    const { openDecoding } = CausalLM.prototype;
    const spy = vi.spyOn(CausalLM.prototype, 'openDecoding').mockImplementation(async function (
      this: CausalLM,
      request,
    ) {
      const decoding = await openDecoding.call(this, request);
      const step = decoding.step.bind(decoding);
      const counted = vi.spyOn(decoding, 'step').mockImplementation((...fed) => {
        if (counted.mock.calls.length === 5) stop.abort(new Stop('interrupted', 130));
        return step(...fed);
      });
      return decoding;
    });
    const args = ['--input-ids', '1,2', '--max-new-tokens', '1000', '--ignore-eos', '--json'];
    const { exitCode, stdout } = await run(['generate', ...args], { stop: stop.signal });
    spy.mockRestore();
    expect(exitCode).toBe(130);
    const { sequences, stats } = JSON.parse(stdout);
    // The first token comes of the prompt, and the fifth step is the one that is cut off.
    expect(sequences[0]).toHaveLength(5);
    expect(stats.newTokens).toBe(5);
  });
});

describe('what the command line alone shows to be wrong ends with 2', () => {
  test.each([
    [
      ['--max-new-tokens', '0'],
      "option '-n, --max-new-tokens <n>' argument '0' is invalid. It must be a whole number of at least 1.",
    ],
    [['--max-new-tokens', '1.5'], 'whole number of at least 1'],
    [['--max-new-tokens', ''], 'whole number of at least 1'],
    [['--threads', '0'], 'from 1 to 1024'],
    [['--seed', '-1'], 'whole number of at least 0'],
    [['--seed', '1e400'], 'whole number'],
    [['--temperature', '-0.1'], 'It must be a number of at least 0.'],
    [['--temperature', 'warm'], 'It must be a number of at least 0.'],
    [['--temperature', 'Infinity'], 'It must be a number of at least 0.'],
    [['--top-k', '-1'], 'whole number of at least 0'],
    [['--top-p', '1.1'], 'It must be a number of at least 0 and at most 1.'],
    [['--min-p', 'NaN'], 'It must be a number of at least 0 and at most 1.'],
    [['--repetition-penalty', '0'], 'It must be a number above 0.'],
    [['--input-ids', '1,x'], 'token ids separated by commas'],
    [['--input-ids', '1,,2'], 'token ids separated by commas'],
    [['--input-ids', '-1'], 'token ids separated by commas'],
    [['--dtype', 'int8'], 'Allowed choices are auto, float32, bfloat16, float16.'],
    [['--device', 'tpu'], 'Allowed choices are'],
    [
      ['--experts', 'grouped-mm'],
      'Known are: batched_mm, eager, grouped_mm, auto. Did you mean "grouped_mm"?',
    ],
    [['--experts', ''], 'Unknown experts implementation ""'],
    [['--experts', 'text_config=eager,'], '"" is not of the form key=name'],
    [['--experts', 'text_config=eager,batched_mm'], '"batched_mm" is not of the form key=name'],
    [['--experts', 'a=b=c'], '"a=b=c" is not of the form key=name'],
    [['--experts', '=eager,=eager'], 'The key "" occurs twice.'],
    [['--prompt', 'a', '--chat', 'b'], '--prompt and --chat exclude each other'],
    [['--prompt', 'a', '--input-ids', '1'], '--prompt and --input-ids exclude each other'],
    [['--prompt', ''], '--prompt is empty'],
    [['--chat', ''], '--chat is empty'],
    [['--no-such-option'], "unknown option '--no-such-option'"],
    [['--prompt'], 'argument missing'],
    [['one', 'two'], 'too many arguments'],
    [['one', '--prompt', 'two'], 'a prompt without an option and --prompt exclude each other'],
    [['--prompt-file', 'x', '--chat', 'y'], '--prompt-file and --chat exclude each other'],
    [['--input-ids', '1', '--system', 'x'], '--system belongs to a message'],
    [['--input-ids', '1', '--no-think'], '--no-think belongs to a message'],
    [['--prompt', 'a', '--logprobs', '3'], '--logprobs come with --json'],
    [['--logprobs', '21'], 'whole number from 0 to 20'],
    [[], 'there is nothing to continue; give a prompt, --chat or --input-ids'],
  ])('%j', async (args, message) => {
    const { exitCode, stdout, stderr } = await run(['generate', ...args]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});

test('empty stdin ends with 2, as an empty prompt does', async () => {
  const { exitCode, stderr } = await run(['generate'], { stdin: '\n' });
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/stdin is empty/);
});

describe('any other fault ends with 1', () => {
  test.each([
    [['--model', './no/such/folder', '--prompt', 'a'], /no\/such\/folder/],
    [['--model', DEMO_FOLDER, '--input-ids', '1,999999'], /999999.*0 to 3071/],
    [['--prompt', 'a', '--experts', 'text_config=eager'], /Unknown key "text_config"/],
    [['--model', goldenModel('qwen2_moe_b'), '--prompt', 'a'], /tokenizer/],
    [['--prompt-file', './no/such/file'], /--prompt-file \.\/no\/such\/file cannot be read/],
    [['--input-ids', new Array(1025).fill(1).join(',')], /1025 tokens.*1024/],
  ])('%j', async (args, message) => {
    const { exitCode, stdout, stderr } = await run(['generate', ...args]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toMatch(/^error: /);
    expect(stderr).toMatch(message);
  });
});
