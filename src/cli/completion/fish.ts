import { NAMES, type Place, quoted, type Wanted } from './places.ts';

export function fishScript(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, commands, options, operands }) => {
    const here = `complete -c $name -n ${quoted(isAt(path, []))}`;
    const isNext = `complete -c $name -n ${quoted(
      isAt(
        path,
        commands.map(({ name }) => name),
      ),
    )}`;
    return [
      ...commands.map(({ name, description }) => `${isNext} -f -a ${name} -d ${text(description)}`),
      ...options.map((option) => `${here}${flagsOf(option)} -d ${text(option.description)}`),
      ...operands.flatMap(({ value }) =>
        value?.isPath ? [] : [`${here} -f -a ${text((value?.choices ?? []).join(' '))}`],
      ),
    ];
  });
  return `# Completion of ${NAMES.join(' and ')} for fish; see "switchyard completion --help".
for name in ${NAMES.join(' ')}
${lines.map((line) => `  ${line}`).join('\n')}
end
`;
}

/** Whether a path's words have been typed, and none of the commands below it. */
function isAt(path: string, commands: readonly string[]): string {
  if (path === '') return '__fish_use_subcommand';
  const seen = path.split(' ').map((name) => `__fish_seen_subcommand_from ${name}`);
  const unseen = commands.length > 0 ? [`not __fish_seen_subcommand_from ${commands.join(' ')}`] : [];
  return [...seen, ...unseen].join('; and ');
}

function flagsOf({ flags, value }: Wanted): string {
  const names = flags
    .map((flag) => (flag.startsWith('--') ? ` -l ${flag.slice(2)}` : ` -s ${flag.slice(1)}`))
    .join('');
  if (value === undefined) return names;
  if (value.choices.length > 0) return `${names} -x -a ${text(value.choices.join(' '))}`;
  return `${names} ${value.isPath ? '-r' : '-x'}`;
}

/** As one word of fish, in which a backslash between quotes is one only if it is doubled. */
function text(words: string): string {
  return quoted(words.replaceAll('\\', '\\\\'));
}
