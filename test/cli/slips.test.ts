import { describe, expect, test } from 'vitest';
import { run } from './capture.ts';

describe('what is typed out of habit is wrong, with exit code 2 and what to type', () => {
  test.each([
    [['pull', 'Qwen/Qwen3-30B-A3B'], /unknown command 'pull'[\s\S]*switchyard download MODEL/],
    [['run', 'Qwen/Qwen3-30B-A3B'], /unknown command 'run'[\s\S]*switchyard chat -m MODEL/],
    [['ls'], /switchyard cache ls/],
    [['fit', 'Qwen/Qwen3-30B-A3B'], /switchyard info MODEL/],
    [['In the beginning'], /a prompt belongs to a command/],
    [['constructor'], /a prompt belongs to a command/],
    [['-m', 'demo'], /unknown option '-m'[\s\S]*options follow a command/],
    [['generate', 'a', '--dtype', 'bf16'], /'bf16' is invalid\. .*Did you mean "bfloat16"\?/],
    [['generate', 'a', '--dtype', 'torch.float16'], /Did you mean "float16"\?/],
    [['generate', 'a', '--dtype', 'q4'], /Allowed choices are auto, float32, bfloat16, float16\.\n/],
    [
      ['generate', 'a', '--max-memory', 'lots'],
      /--max-memory.* "lots"; expected a number of bytes, or text such as 20GB/,
    ],
    [['generate', 'a', '--max-cache', '1XB'], /--max-cache.* "1XB"; expected/],
    [['chat', '--pin-memory', '-3'], /--pin-memory.* "-3"; expected/],
    [['serve', '--models-memory', 'all'], /--models-memory.* "all"; expected/],
    [['models', '--memory', 'all'], /--memory.* "all"; expected/],
  ])('switchyard %j', async (args, said) => {
    const { exitCode, stdout, stderr } = await run(args);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(said);
  });
});

test.each(['generate', 'chat', 'serve', 'batch', 'bench', 'experts'])(
  '%s takes its model as -m',
  async (name) => {
    expect((await run([name, '--help'])).stdout).toMatch(/^ {2}-m, --model </m);
  },
);
