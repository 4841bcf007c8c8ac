import { Argument, type Command, type Option } from 'commander';
import type { Io } from './io.ts';
import { examples } from './options.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
/** The names that the package's command goes by. */
const NAMES = ['switchyard', 'moe-switchyard'] as const;

/** `switchyard completion`: prints what makes a shell complete commands and options. */
export function addCompletionCommand(program: Command, io: Io): void {
  program
    .command('completion')
    .description('Print what makes a shell complete commands and options.')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addHelpText(
      'after',
      examples(
        ['source <(switchyard completion bash)', 'in ~/.bashrc'],
        ['source <(switchyard completion zsh)', 'in ~/.zshrc, behind compinit'],
        ['switchyard completion fish > ~/.config/fish/completions/switchyard.fish', ''],
      ),
    )
    .action((shell: (typeof SHELLS)[number]) => {
      io.stdout.write(shell === 'fish' ? fish(program) : bash(program));
    });
}

/** A command with the names that lead to it, such as `cache ls`; the program itself has none. */
interface Place {
  readonly path: string;
  readonly command: Command;
}

function placesOf(command: Command, path = ''): Place[] {
  const below = command.commands.flatMap((one) => placesOf(one, `${path} ${one.name()}`.trimStart()));
  return [{ path, command }, ...below];
}

/** `-m` and `--model`. */
function flagsOf({ short, long }: Option): string[] {
  return [short, long].filter((flag) => flag !== undefined);
}

const takesValue = (option: Option) => option.required || option.optional;

/** Bash, and zsh by its emulation of bash's completion. Where an option wants what cannot be listed, files are offered. */
function bash(program: Command): string {
  const places = placesOf(program);
  const values = places.flatMap(({ path, command }) =>
    command.options
      .filter(takesValue)
      .flatMap((option) =>
        flagsOf(option).map(
          (flag) =>
            `    ${quoted(`${path}|${flag}`)}) words=${quoted((option.argChoices ?? []).join(' '))} ;;`,
        ),
      ),
  );
  const words = places.map(({ path, command }) => {
    const all = [...command.commands.map((one) => one.name()), ...command.options.flatMap(flagsOf), '--help'];
    return `      ${quoted(path)}) words=${quoted(all.join(' '))} ;;`;
  });
  const paths = places.map(({ path }) => path).filter((path) => path !== '');
  return `# Completion of ${NAMES.join(' and ')}; see "switchyard completion --help".
if [ -n "\${ZSH_VERSION-}" ]; then autoload -U +X bashcompinit && bashcompinit; fi
_switchyard() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" path="" words="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${paths.map(quoted).join(' | ')}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path|$before" in
${values.join('\n')}
    *) case "$path" in
${words.join('\n')}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _switchyard ${NAMES.join(' ')}
`;
}

function fish(program: Command): string {
  const lines = placesOf(program).flatMap(({ path, command }) => {
    const seen =
      path === ''
        ? '__fish_use_subcommand'
        : path
            .split(' ')
            .map((name) => `__fish_seen_subcommand_from ${name}`)
            .join('; and ');
    const begin = `complete -c $name -n ${quoted(seen)}`;
    return [
      ...command.commands.map((one) => `${begin} -f -a ${one.name()} -d ${quoted(one.description())}`),
      ...command.options.map((option) => `${begin}${fishFlags(option)} -d ${quoted(option.description)}`),
    ];
  });
  return `# Completion of ${NAMES.join(' and ')}; see "switchyard completion --help".
for name in ${NAMES.join(' ')}
${lines.map((line) => `  ${line}`).join('\n')}
end
`;
}

function fishFlags(option: Option): string {
  const { short, long, argChoices } = option;
  const names = `${short ? ` -s ${short.slice(1)}` : ''}${long ? ` -l ${long.slice(2)}` : ''}`;
  if (!takesValue(option)) return names;
  return argChoices ? `${names} -x -a ${quoted(argChoices.join(' '))}` : `${names} -r`;
}

/** As one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
