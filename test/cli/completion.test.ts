import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from './capture.ts';

const hasShell = (name: string) => spawnSync(name, ['--version']).status === 0;

/** Runs a shell that must not complain. */
function spoken(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const { stdout, stderr, status } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  expect([status, stderr]).toEqual([0, '']);
  return stdout;
}

const lines = (text: string) => text.split('\n').filter((line) => line !== '');

/** What bash offers at the end of a line. */
function offeredByBash(script: string, line: string): string[] {
  // As readline does, but for quotes.
  const words = line.split(/ |(=)/).filter((word) => word !== undefined);
  const program = `${script}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _switchyard; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return lines(spoken('bash', ['-c', program]));
}

function offeredByFish(script: string, line: string): string[] {
  const answer = spoken('fish', ['--no-config', '-c', `${script}\ncomplete -C '${line}'`]);
  return lines(answer).map((one) => one.split('\t')[0] as string);
}

/** Zsh completes on a terminal alone, so one is made; what it would offer goes to a file. */
const ZSH_INSIDE = `
PROMPT=
autoload -Uz compinit && compinit -d $HOME/dump -i
source $SCRIPT
compadd() {
  case " $* " in (*' -O '*|*' -A '*|*' -D '*) builtin compadd "$@"; return ;; esac
  local -a hits
  builtin compadd -A hits "$@"
  print -rl -- $hits >> $OFFERED
  builtin compadd "$@"
}
bindkey '^I' complete-word
comppostfuncs=(exit)
echo rea''dy
`;
const ZSH_OUTSIDE = `
zmodload zsh/zpty
zpty inside zsh -f -i
zpty -w inside source $INSIDE
zpty -r inside answer '*ready*'
zpty -w -n inside "$LINE"$'\\t'
while zpty -r inside answer; do :; done
`;

function offeredByZsh(script: string, line: string): string[] {
  const path = (name: string) => join(folder, name);
  for (const [name, text] of Object.entries({ script, inside: ZSH_INSIDE, offered: '' }))
    writeFileSync(path(name), text);
  const files = { SCRIPT: path('script'), INSIDE: path('inside'), OFFERED: path('offered') };
  spoken('zsh', ['-f', '-c', ZSH_OUTSIDE], { ...files, LINE: line, HOME: folder, ZDOTDIR: folder });
  return lines(readFileSync(path('offered'), 'utf8'));
}

let folder: string;
const scripts: Record<string, string> = {};
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-completion-'));
  for (const shell of ['bash', 'zsh', 'fish']) scripts[shell] = (await run(['completion', shell])).stdout;
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const offeredBy = { bash: offeredByBash, zsh: offeredByZsh, fish: offeredByFish };

describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
  const offered = (line: string) => offeredBy[shell](scripts[shell] as string, line).sort();

  describe.runIf(hasShell(shell))('as it runs here', () => {
    test('completes commands, and those below them', () => {
      expect(offered('switchyard gen')).toEqual(['generate']);
      expect(offered('switchyard cache ')).toEqual(['ls', 'rm']);
      expect(offered('moe-switchyard cache r')).toEqual(['rm']);
    });

    test('completes options of the command they belong to', () => {
      expect(offered('switchyard generate --max-n')).toEqual(['--max-new-tokens']);
      expect(offered('switchyard info --max-n')).toEqual([]);
      expect(offered('switchyard cache rm --y')).toEqual(['--yes']);
      expect(offered('switchyard generate -m x --stat')).toEqual(['--stats']);
      expect(offered('switchyard info --h')).toEqual(['--help']);
    });

    test('completes what a word may be', () => {
      expect(offered('switchyard generate --dtype b')).toEqual(['bfloat16']);
      expect(offered('switchyard completion ')).toEqual(['bash', 'fish', 'zsh']);
    });

    test('leaves the rest to files', () => {
      const file = join(folder, 'some');
      writeFileSync(`${file}-prompt.txt`, '');
      for (const line of [`switchyard info ${file}`, `switchyard generate --prompt-file ${file}`]) {
        const found = offered(line);
        // Bash looks for files itself where a script has nothing to offer.
        if (shell === 'bash') expect(found).toEqual([]);
        else expect(found.map((path) => path.split('/').at(-1))).toEqual(['some-prompt.txt']);
      }
      expect(offered('switchyard generate --dtype x')).toEqual([]);
    });
  });

  test('names each command, with its options', () => {
    const script = scripts[shell] as string;
    for (const word of ['generate', 'serve', 'rm', 'quantized', 'max-new-tokens', 'bfloat16'])
      expect(script).toContain(word);
  });
});

test('bash takes an option and its value in one word, too', { skip: !hasShell('bash') }, () => {
  expect(offeredByBash(scripts.bash as string, 'switchyard generate --dtype=b')).toEqual(['bfloat16']);
  expect(offeredByBash(scripts.bash as string, 'switchyard generate --dtype=')).toContain('bfloat16');
});

test('another shell is refused', async () => {
  const { exitCode, stderr } = await run(['completion', 'tcsh']);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/Allowed choices are bash, zsh, fish/);
});
