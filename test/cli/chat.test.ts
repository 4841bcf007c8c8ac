import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ReplyPrinter } from '../../src/cli/chat/reply-printer.ts';
import { runCommandLine } from '../../src/cli/program.ts';
import type { ResponseDelta } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { run } from './capture.ts';

let folder: string;
const cache = process.env.SWITCHYARD_CACHE;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-chat-'));
  process.env.SWITCHYARD_CACHE = folder;
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  if (cache === undefined) delete process.env.SWITCHYARD_CACHE;
  else process.env.SWITCHYARD_CACHE = cache;
});

const greedy = ['--temperature', '0', '-n', '12'];
const chat = (lines: readonly string[], ...args: string[]) =>
  run(['chat', ...greedy, ...args], { stdin: lines.map((line) => `${line}\n`).join('') });
const messagesIn = (file: string) =>
  JSON.parse(readFileSync(file, 'utf8')) as { role: string; content: unknown }[];

describe('switchyard chat, piped', () => {
  test('answers a line after the other, and remembers', async () => {
    const file = join(folder, 'said.json');
    const { exitCode, stdout } = await chat(['Speak of Moses.', 'And of David?', `/save ${file}`]);
    expect(exitCode).toBe(0);
    const said = messagesIn(file);
    expect(said.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
    expect(stdout).toBe(`${said[1]?.content}\n${said[3]?.content}\n`);
    const alone = await chat(['And of David?']);
    expect(alone.stdout).not.toBe(`${said[3]?.content}\n`);
  });

  test('takes messages of several lines, and such as begin with /', async () => {
    const file = join(folder, 'said.json');
    await chat(['"""one', '  two', 'three"""', 'four \\', 'five', '//six', `/save ${file}`]);
    const asked = messagesIn(file).filter(({ role }) => role === 'user');
    expect(asked.map(({ content }) => content)).toEqual(['one\n  two\nthree', 'four \nfive', '/six']);
  });

  test('switches the experts, and tells the backends of the last answer', async () => {
    const { stderr } = await chat(['Hi.', '/experts eager', '/experts', 'Hi again.', '/stats']);
    expect(stderr).toContain('experts: eager\n');
    expect(stderr).toContain('experts: eager; there are batched_mm, eager, grouped_mm, auto');
    expect(stderr).toMatch(/^MoE calls +\d+ by eager$/m);
  });

  test('tells the model first what /system says, and goes on from what /load reads', async () => {
    const [first, second] = [join(folder, 'a.json'), join(folder, 'b.json')];
    await chat(['/system You are a king.', 'Who art thou?', `/save ${first}`]);
    expect(messagesIn(first)[0]).toEqual({ role: 'system', content: 'You are a king.' });
    const { stdout, stderr } = await chat([`/load ${first}`, '/retry'], '--system', 'another');
    expect([stdout, stderr]).toEqual(['', expect.stringContaining('no message yet')]);
    await chat([`/load ${first}`, 'And who am I?', '/clear', 'Hi.', `/save ${second}`]);
    expect(messagesIn(second).map(({ content }) => content)).toEqual([
      'You are a king.',
      'Hi.',
      expect.any(String),
    ]);
  });

  test('/retry answers the same message anew, and only the last answer stays', async () => {
    const file = join(folder, 'said.json');
    const lines = ['Speak of Moses.', '/retry', '/retry', `/save ${file}`];
    const sampled = ['--temperature', '1.5', '-n', '12', '--seed', '7'];
    const { stdout } = await run(['chat', ...sampled], { stdin: lines.join('\n') });
    const answers = stdout.trimEnd().split('\n');
    expect(new Set(answers).size).toBeGreaterThan(1);
    expect(messagesIn(file)).toHaveLength(2);
    expect(stdout.endsWith(`${messagesIn(file)[1]?.content}\n`)).toBe(true);
    expect((await run(['chat', ...sampled], { stdin: lines.slice(0, 3).join('\n') })).stdout).toBe(stdout);
  });

  test.each([
    ['/retyr', 'message with /. Did you mean "retry"?'],
    ['/save', '/save is to be followed by FILE'],
    ['/stats now', '/stats takes nothing, but "now" follows it'],
    ['/stats', 'there is no answer yet'],
    ['/experts gruoped_mm', 'Unknown experts implementation "gruoped_mm"'],
    ['/image a.png', 'is a text model and sees no pictures'],
    ['/load nowhere.json', '/load nowhere.json cannot be read: there is no such file (ENOENT)'],
    ['/load .', '/load . cannot be read: it is a folder, and no file'],
    ['/load package.json/x', 'cannot be read: a part of its path is no folder (ENOTDIR)'],
    [
      '/load README.md',
      /^error: \/load README\.md is not valid JSON: .*\. Name a file that \/save has written$/m,
    ],
    [
      '/save nowhere/said.json',
      '/save nowhere/said.json cannot be written: there is no such folder (ENOENT)',
    ],
    ['/save .', '/save . cannot be written: it is '],
    ['/think maybe', '/think takes on or off, not "maybe"'],
  ])('ends at %s, which a script must not pass by', async (line, message) => {
    const { exitCode, stdout, stderr } = await chat([line, 'Hi.']);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toEqual(
      typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message),
    );
  });

  test.each([
    [
      'of any depth',
      () => `${'['.repeat(1000)}${']'.repeat(1000)}`,
      'nested more than 64 deep; this is no saved conversation',
    ],
    [
      'of any size',
      () => ' '.repeat(9 * 2 ** 20),
      'has 9437184 bytes; the limit for a saved conversation is 8388608',
    ],
  ])('/load reads no file %s', async (_, text, message) => {
    const file = join(folder, 'large.json');
    writeFileSync(file, text());
    const { exitCode, stderr } = await chat([`/load ${file}`]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining(message)]);
  });

  test('/save writes over nothing but what this chat has written', async () => {
    const file = join(folder, 'mine.txt');
    writeFileSync(file, 'precious');
    const { exitCode, stderr } = await chat([`/save ${file}`]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('it is there already')]);
    expect(readFileSync(file, 'utf8')).toBe('precious');
    const other = join(folder, 'other.json');
    expect((await chat(['Hi.', `/save ${other}`, `/save ${other}`])).exitCode).toBe(0);
  });

  test('takes no file for a picture that is none, before anything is asked about it', async () => {
    const model = goldenModel('qwen3_vl_moe_e');
    for (const [file, why] of [
      ['README.md', 'is no picture of a format that is read'],
      ['nowhere.png', 'there is no such file'],
      ['src', 'is not a file'],
    ] as const) {
      const { exitCode, stdout, stderr } = await chat([`/image ${file}`, 'Hi.'], '--model', model);
      expect([exitCode > 0, stdout]).toEqual([true, '']);
      expect(stderr).toMatch(new RegExp(`/image \\(.*${file}\\)`));
      expect(stderr).toContain(why);
    }
  });

  test('shows pictures to a model that sees', async () => {
    const model = goldenModel('qwen3_vl_moe_e');
    const [name = ''] = readdirSync(join(model, 'images'));
    const file = join(folder, 'said.json');
    const lines = [`/image ${join(model, 'images', name)}`, 'What is this?', `/save ${file}`];
    const { exitCode, stderr } = await chat(lines, '--model', model);
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('1 for the next message')]);
    expect(messagesIn(file)[0]?.content).toEqual([
      { type: 'image', image: join(model, 'images', name) },
      { type: 'text', text: 'What is this?' },
    ]);
  });
});

/** A chat at a terminal that the test types at. */
function atTerminal(...args: string[]) {
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  const stdout = Object.assign(new PassThrough(), { isTTY: true });
  const stderr = new PassThrough();
  let shown = '';
  let look = () => {};
  for (const out of [stdout, stderr])
    out.on('data', (piece) => {
      shown += String(piece);
      look();
    });
  let interrupt: (() => void) | undefined;
  const exit = runCommandLine(['chat', ...args], {
    ...{ stdin, stdout, stderr },
    stop: new AbortController().signal,
    onInterrupt: (listener) => {
      interrupt = listener;
      return () => {
        interrupt = undefined;
      };
    },
  });
  /** Waits for a text, and forgets what was shown until it had come. */
  const shows = (text: string) =>
    new Promise<void>((resolve) => {
      look = () => {
        const at = shown.indexOf(text);
        if (at === -1) return;
        shown = shown.slice(at + text.length);
        look = () => {};
        resolve();
      };
      look();
    });
  const PROMPT = '> \x1b[3G';
  return { exit, shows, type: (text: string) => stdin.write(text), interrupt: () => interrupt?.(), PROMPT };
}

describe('switchyard chat, at a terminal', () => {
  test('Ctrl-C stops the answer and not the program; what was said stays', async () => {
    const { exit, shows, type, interrupt, PROMPT } = atTerminal('--temperature', '0', '--ignore-eos');
    await shows(PROMPT);
    type('Speak of Moses.\r');
    await shows('And');
    interrupt();
    await shows(PROMPT);
    const file = join(folder, 'said.json');
    type(`/save ${file}\r`);
    await shows('2 messages written');
    const said = messagesIn(file)[1]?.content as string;
    expect(said).toMatch(/^And/);
    // Without Ctrl-C it would have gone on until the context is full.
    expect(said.length).toBeLessThan(300);
    type('\x04');
    expect(await exit).toBe(0);
  });

  test('a mistake is told, and the chat goes on; Ctrl-C gives up what is typed', async () => {
    const { exit, shows, type, PROMPT } = atTerminal(...greedy);
    await shows(PROMPT);
    type('/nonsense\r');
    await shows('error: there is no command /nonsense');
    type('abc\x03');
    await shows('^C\n');
    type('/bye\r');
    expect(await exit).toBe(0);
  });

  test.each(['/exit', '/quit'])('%s leaves, too, as in other programs', async (word) => {
    const { exit, shows, type, PROMPT } = atTerminal(...greedy);
    await shows(PROMPT);
    type(`${word}\r`);
    expect(await exit).toBe(0);
  });

  test('what is pasted is one message, and what was typed comes back in the next chat', async () => {
    const first = atTerminal(...greedy);
    await first.shows(first.PROMPT);
    first.type('\x1b[200~one\rtwo\x1b[201~');
    await first.shows('two');
    first.type('\r');
    await first.shows(first.PROMPT);
    const file = join(folder, 'said.json');
    first.type(`/save ${file}\r`);
    await first.shows('2 messages written');
    first.type('/bye\r');
    await first.exit;
    expect(messagesIn(file)[0]?.content).toBe('one\ntwo');

    const second = atTerminal(...greedy);
    await second.shows(second.PROMPT);
    second.type('\x1b[A\x1b[A');
    await second.shows('/save ');
    second.type('\x03');
    await second.shows(second.PROMPT);
    second.type('/exp\t');
    await second.shows('/experts');
    second.type('\x03\x04');
    expect(await second.exit).toBe(0);
  });
});

describe('an answer on a terminal', () => {
  const deltas: ResponseDelta[] = [
    { type: 'reasoning', text: 'Hm, ' },
    { type: 'reasoning', text: 'yes.' },
    { type: 'content', text: 'It is \x1b[31mso.' },
    { type: 'tool_call', index: 0, name: 'look' },
    { type: 'tool_call_arguments', index: 0, text: '{"at":1}' },
  ];
  const printed = (isTerminal: boolean, reasoning: 'show' | 'fold' | 'hide') => {
    const out = new PassThrough();
    let now = 0;
    const printer = new ReplyPrinter(out, { isTerminal, reasoning }, () => {
      now += 1500;
      return now;
    });
    for (const delta of deltas) printer.print(delta);
    printer.end();
    return String(out.read());
  };
  const answer = 'It is [31mso.\n[calls look {"at":1}]\n';

  test('has its reasoning dimmed, folded, or hidden, and steers nothing', () => {
    expect(printed(true, 'show')).toBe(`\x1b[2mHm, yes.\x1b[22m\n${answer}`);
    expect(printed(true, 'fold')).toBe(`thinking …\r\x1b[K(thought for 1.5 s)\n${answer}`);
    expect(printed(true, 'hide')).toBe(answer);
  });

  test('is told as it is where it is piped on', () => {
    const plain = answer.replace('[31m', '\x1b[31m');
    expect(printed(false, 'hide')).toBe(plain);
    expect(printed(false, 'show')).toBe(`<think>\nHm, yes.\n</think>\n${plain}`);
  });
});
