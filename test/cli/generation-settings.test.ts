import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { AutoModelForCausalLM } from '../../src/index.ts';
import { linkedModel } from '../helpers/checkpoints.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const DEMO = DEMO_FOLDER;
const prompt = ['--prompt', 'In the beginning', '--max-new-tokens'];
const made: (() => void)[] = [];
afterAll(() => made.forEach((remove) => void remove()));

/** The demo model with other settings of generation. */
function demoWith(files: Record<string, object | undefined>): string {
  const { folder, remove } = linkedModel(DEMO, files);
  made.push(remove);
  return folder;
}

async function generate(folder: string, ...args: string[]) {
  const { exitCode, stdout, stderr } = await run(['generate', '--model', folder, ...args]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

describe('generation_config.json', () => {
  test('may leave a temperature of 0 behind for greedy decoding', async () => {
    const folder = demoWith({ 'generation_config.json': { do_sample: false, temperature: 0.0, top_p: 1.0 } });
    const greedy = await generate(DEMO, ...prompt, '4', '--temperature', '0');
    expect(await generate(folder, ...prompt, '4')).toBe(greedy);
    await generate(folder, ...prompt, '4', '--temperature', '0.7', '--seed', '1');
  });

  test('may say at which texts to stop, for text and for raw ids', async () => {
    const free = demoWith({ 'generation_config.json': { do_sample: false } });
    const folder = demoWith({ 'generation_config.json': { do_sample: false, stop_strings: ['LORD'] } });
    const text = await generate(free, ...prompt, '16');
    const stop = text.indexOf('LORD');
    expect(stop).toBeGreaterThan(0);
    expect(await generate(folder, ...prompt, '16')).toBe(`${text.slice(0, stop)}LORD\n`);
    const raw = ['--input-ids', '1,2,3', '--max-new-tokens', '64'];
    const long = (await generate(free, ...raw)).trim().split(',');
    const short = (await generate(folder, ...raw)).trim().split(',');
    expect(long.slice(0, short.length)).toEqual(short);
  });

  test('may ask for guidance, which leads away from the last token alone', async () => {
    const free = demoWith({ 'generation_config.json': { do_sample: false } });
    const guided = demoWith({ 'generation_config.json': { do_sample: false, guidance_scale: 4 } });
    expect(await generate(guided, ...prompt, '16')).not.toBe(await generate(free, ...prompt, '16'));
  });

  test('is led by what the command line says of guidance', async () => {
    const greedy = [...prompt, '16', '--temperature', '0'];
    const negative = ['--guidance-scale', '4', '--negative-prompt', 'And the LORD said'];
    const { exitCode, stdout } = await run(['generate', ...greedy, ...negative, '--json']);
    expect(exitCode).toBe(0);
    await using model = await AutoModelForCausalLM.fromPretrained(DEMO);
    const options = { maxNewTokens: 16, doSample: false, guidanceScale: 4 };
    const { text } = await model.generate({
      ...{
        ...options,
        prompt: 'In the beginning',
        negativePrompt: 'And the LORD said',
      },
    });
    expect(JSON.parse(stdout).text).toEqual(text);
    const chat = ['--chat', 'Hello', '--max-new-tokens', '12', '--temperature', '0', '--json'];
    const answer = await run(['generate', ...chat, ...negative]);
    const replied = await model.generate({
      ...{ ...options, maxNewTokens: 12, negativePrompt: 'And the LORD said' },
      messages: [{ role: 'user', content: 'Hello' }],
    });
    expect(JSON.parse(answer.stdout).text).toEqual(replied.text);
  });

  test.each<[string[], RegExp]>([
    [['--negative-prompt', 'x'], /--negative-prompt comes with --guidance-scale/],
    [['--thinking-budget', '5'], /the tokenizer has no tokens that open and close reasoning/],
    [['--thinking-budget', '-1'], /--thinking-budget/],
  ])('are refused where they have no effect: %j', async (flags, message) => {
    const { exitCode, stderr } = await run(['generate', ...prompt, '2', ...flags]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(message);
  });

  test('has what it asks for in vain named once', async () => {
    const folder = demoWith({
      'generation_config.json': { do_sample: false, penalty_alpha: 0.6, dola_layers: 'high' },
    });
    const { exitCode, stderr } = await run(['generate', '--model', folder, ...prompt, '2']);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(
      /^warning: .*generation_config\.json has settings without effect here: penalty_alpha: 0\.6, dola_layers: "high"\n$/,
    );
  });
});

test('without generation_config.json the end tokens of config.json count', async () => {
  const config = JSON.parse(readFileSync(join(DEMO, 'config.json'), 'utf8'));
  const ids = [
    await generate(
      demoWith({ 'generation_config.json': undefined }),
      '--input-ids',
      '5,6',
      '--max-new-tokens',
      '6',
    ),
  ];
  const [first] = (ids[0] as string).trim().split(',').map(Number);
  const folder = demoWith({
    'generation_config.json': undefined,
    'config.json': { ...config, eos_token_id: [first] },
  });
  expect(await generate(folder, '--input-ids', '5,6', '--max-new-tokens', '6')).toBe(`${first}\n`);
});
