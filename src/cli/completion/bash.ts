import { NAMES, type Place, quoted } from './places.ts';

/** For bash 3.2, macOS's, and newer. What cannot be listed is left to bash, which offers files. */
export function bashScript(places: readonly Place[]): string {
  const paths = places.map(({ path }) => path).filter((path) => path !== '');
  const values = places.flatMap(({ path, options }) =>
    options.flatMap(({ flags, value }) =>
      value
        ? [`    ${flags.map((flag) => quoted(`${path}|${flag}`)).join(' | ')}) ${wordsAre(value.choices)} ;;`]
        : [],
    ),
  );
  const options = places.map(
    ({ path, options }) => `      ${quoted(path)}) ${wordsAre(options.flatMap(({ flags }) => flags))} ;;`,
  );
  const words = places.flatMap(({ path, commands, operands }) => {
    const all = [
      ...commands.map(({ name }) => name),
      ...operands.flatMap(({ value }) => value?.choices ?? []),
    ];
    return all.length > 0 ? [`      ${quoted(path)}) ${wordsAre(all)} ;;`] : [];
  });
  return `# Completion of ${NAMES.join(' and ')} for bash; see "switchyard completion --help".
_switchyard() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" place="" words="" word
  # "--dtype=float32" comes as three words.
  if [ "$current" = "=" ]; then current=""
  elif [ "$before" = "=" ]; then before="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${place:+$place }$word" in
      ${paths.map(quoted).join(' | ')}) place="\${place:+$place }$word" ;;
    esac
  done
  case "$place|$before" in
${values.join('\n')}
    *'|'*) case "$current" in
    -*) case "$place" in
${options.join('\n')}
    esac ;;
    *) case "$place" in
${words.join('\n')}
    esac ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _switchyard ${NAMES.join(' ')}
`;
}

function wordsAre(words: readonly string[]): string {
  return `words=${quoted(words.join(' '))}`;
}
