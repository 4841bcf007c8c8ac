import { utf8 } from './characters.ts';
import { byteSet, type MachineState, type Node, repeat } from './grammar.ts';
import { compileRegex } from './regex/compile.ts';

/** Any text, up to and including the first `mark`. */
export function upTo(mark: string): Node {
  return scan(Buffer.from(mark, 'utf8'), true);
}

/** Any text without `mark`. */
export function without(mark: string): Node {
  return scan(Buffer.from(mark, 'utf8'), false);
}

/**
 * A machine that looks for the first `mark`: its states are how much of the mark the text ends in.
 * Source: Knuth, Morris and Pratt, "Fast pattern matching in strings" (1977).
 */
function scan(mark: Uint8Array, untilFound: boolean): Node {
  const states: MachineState[] = [];
  // Where the same scan stands that began one byte later.
  let later = 0;
  const targets: Uint16Array[] = [];
  for (let at = 0; at < mark.length; at++) {
    const byte = mark[at] as number;
    const to = at === 0 ? new Uint16Array(256) : Uint16Array.from(targets[later] as Uint16Array);
    const fallback = to[byte] as number;
    to[byte] = at + 1;
    targets.push(to);
    if (at > 0) later = fallback;
  }
  for (const to of targets) {
    const reached = new Set(to);
    const edges = [...reached]
      .filter((target) => untilFound || target < mark.length)
      .map((target) => ({
        to: target,
        set: byteSet(
          [...to.entries()].filter(([, one]) => one === target).map(([byte]) => [byte, byte] as const),
        ),
      }));
    states.push({ edges, accepts: !untilFound });
  }
  if (untilFound) states.push({ edges: [], accepts: true });
  return { kind: 'machine', states };
}

/** White space that stands between parts of an answer. */
export const GAP: Node = repeat(
  {
    kind: 'byte',
    set: byteSet([
      [0x0a, 0x0a],
      [0x20, 0x20],
    ]),
  },
  0,
  4,
);

/**
 * Texts that a regular expression matches as a whole.
 * @throws PatternError
 */
export function wholeMatch(pattern: string): Node {
  return compileRegex(pattern, utf8, true);
}
