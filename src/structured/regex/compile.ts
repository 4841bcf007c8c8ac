import type { CharacterSet } from '../characters.ts';
import { ANY } from '../characters.ts';
import { choice, type Node, repeat, sequence } from '../grammar.ts';
import { PatternError, parseRegex, type Regex } from './parse.ts';

/**
 * The texts that a regular expression of ECMAScript finds something in, as `RegExp.test` does: what is not tied to the start or end by an
 * anchor may stand anywhere.
 *
 * @param character one character of a set, as the text spells it
 * @param isWhole matches only whole texts, as if anchored at both ends
 * @throws PatternError as {@link parseRegex}, and for anchors in the midst of a pattern
 */
export function compileRegex(pattern: string, character: (set: CharacterSet) => Node, isWhole = false): Node {
  const anything = repeat(character(ANY), 0);
  const ways = alternatives(parseRegex(pattern)).map((way) => {
    const items = [...way];
    const isAtStart = items[0]?.kind === 'start';
    const isAtEnd = items.at(-1)?.kind === 'end';
    const inner = items.slice(
      isAtStart ? 1 : 0,
      isAtEnd && items.length > (isAtStart ? 1 : 0) ? -1 : undefined,
    );
    const node = sequence(...inner.map((item) => build(item, character)));
    return sequence(
      ...(isAtStart || isWhole ? [] : [anything]),
      node,
      ...(isAtEnd || isWhole ? [] : [anything]),
    );
  });
  return choice(...ways);
}

/** The ways a pattern can go, each as its parts, with groups round the whole of one taken off, so that its anchors are seen. */
function alternatives(regex: Regex): (readonly Regex[])[] {
  if (regex.kind === 'choice') return regex.items.flatMap(alternatives);
  if (regex.kind !== 'sequence') return [[regex]];
  const [only] = regex.items;
  if (regex.items.length === 1 && only && (only.kind === 'sequence' || only.kind === 'choice'))
    return alternatives(only);
  return [regex.items];
}

function build(regex: Regex, character: (set: CharacterSet) => Node): Node {
  switch (regex.kind) {
    case 'set':
      return character(regex.set);
    case 'sequence':
      return sequence(...regex.items.map((item) => build(item, character)));
    case 'choice':
      return choice(...regex.items.map((item) => build(item, character)));
    case 'repeat':
      return repeat(build(regex.item, character), regex.min, regex.max);
    default:
      throw new PatternError(`it has a ${regex.kind === 'start' ? '^' : '$'} in its midst`);
  }
}
