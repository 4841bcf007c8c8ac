import { NAMES, type Place, quoted, type Value, type Wanted } from './places.ts';

/** A function for each place, in the words of zsh's _arguments; to be sourced, or kept as the file _switchyard in fpath. */
export function zshScript(places: readonly Place[]): string {
  return `#compdef ${NAMES.join(' ')}
# Completion of ${NAMES.join(' and ')} for zsh; see "switchyard completion --help".

${places.map(functionOf).join('\n')}
if [[ $funcstack[1] == _switchyard ]]; then
  _switchyard "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }
  compdef _switchyard ${NAMES.join(' ')}
fi
`;
}

const nameOf = (path: string) => `_switchyard${path && `_${path.replaceAll(' ', '_')}`}`;

function functionOf(place: Place): string {
  const { path, commands, options, operands } = place;
  const specs = [...options.flatMap(optionSpecs), ...operands.map(operandSpec)];
  const list = (lines: readonly string[]) => lines.map((line) => ` \\\n    ${quoted(line)}`).join('');
  if (commands.length === 0) return `${nameOf(path)}() {\n  _arguments -s -S${list(specs)}\n}\n`;
  return `${nameOf(path)}() {
  local curcontext="$curcontext" state line ret=1
  local -A opt_args
  local -a below
  _arguments -C -s -S${list([...specs, '*:: :->below'])} && ret=0
  [[ $state == below ]] || return ret
  if (( CURRENT == 1 )); then
    below=(${commands.map(({ name, description }) => `\n      ${quoted(`${name}:${description}`)}`).join('')}
    )
    _describe -t commands command below && ret=0
  else
    case $words[1] in
${commands.map(({ name }) => `      ${name}) ${nameOf(`${path} ${name}`.trimStart())} && ret=0 ;;`).join('\n')}
    esac
  fi
  return ret
}
`;
}

/** One for each flag. An option with a value may come again, as some take several. */
function optionSpecs({ flags, description, value }: Wanted): string[] {
  const text = `[${escaped(description)}]`;
  if (value === undefined) return flags.map((flag) => `(${flags.join(' ')})${flag}${text}`);
  return flags.map((flag) => `*${flag}${flag.startsWith('--') ? '=' : ''}${text}${valueSpec(value)}`);
}

function operandSpec({ value }: Wanted): string {
  return valueSpec(value as Value);
}

function valueSpec({ name, isOptional, choices, isPath }: Value): string {
  const action = choices.length > 0 ? `(${choices.join(' ')})` : isPath ? '_files' : ' ';
  return `${isOptional ? '::' : ':'}${escaped(name)}:${action}`;
}

/** Characters by which _arguments takes its words apart. */
function escaped(text: string): string {
  return text.replace(/[\\[\]:]/g, '\\$&');
}
