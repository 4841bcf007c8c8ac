import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { run } from './capture.ts';

const hasShell = (name: string) => spawnSync(name, ['--version']).status === 0;

/** What bash offers at the end of a line. */
async function offered(line: string): Promise<string[]> {
  const { stdout: script } = await run(['completion', 'bash']);
  const words = line.split(' ');
  const program = `${script}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _switchyard; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync('bash', ['-c', program], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  return stdout.split('\n').filter((word) => word !== '');
}

describe.runIf(hasShell('bash'))('bash', () => {
  test('completes commands, and those below them', async () => {
    expect(await offered('switchyard gen')).toEqual(['generate']);
    expect(await offered('switchyard cache ')).toEqual(expect.arrayContaining(['ls', 'rm', '--help']));
  });

  test('completes options of the command they belong to', async () => {
    expect(await offered('switchyard generate --max-n')).toEqual(['--max-new-tokens']);
    expect(await offered('switchyard info --max-n')).toEqual([]);
    expect(await offered('switchyard cache rm --y')).toEqual(['--yes']);
    expect(await offered('switchyard generate -m x --stat')).toEqual(['--stats']);
  });

  test('completes what an option may be, and leaves the rest to files', async () => {
    expect(await offered('switchyard generate --dtype x')).toEqual([]);
    expect(await offered('switchyard generate --dtype b')).toEqual(['bfloat16']);
    expect(await offered('switchyard generate --prompt-file ')).toEqual([]);
  });
});

test.runIf(hasShell('fish'))('the script for fish is one', async () => {
  const { stdout } = await run(['completion', 'fish']);
  expect(spawnSync('fish', ['--no-execute'], { input: stdout }).status).toBe(0);
});

test('the script for fish has each command and option', async () => {
  const { stdout } = await run(['completion', 'fish']);
  expect(stdout).toMatch(/__fish_use_subcommand' -f -a generate -d '/);
  expect(stdout).toMatch(
    /__fish_seen_subcommand_from generate' -s m -l model -d '.*' *$|-s m -l model -r -d '/m,
  );
  expect(stdout).toMatch(/-l dtype -x -a 'auto float32 bfloat16 float16'/);
});

test('another shell is refused', async () => {
  const { exitCode, stderr } = await run(['completion', 'tcsh']);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/Allowed choices are bash, zsh, fish/);
});
