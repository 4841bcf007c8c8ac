import { Automaton, type State } from '../../src/structured/automaton.ts';
import type { Node } from '../../src/structured/grammar.ts';

/**
 * A text that a grammar lets through, at random: any byte that may follow, ending where it may, the sooner the longer it is. Fails where the
 * grammar leaves no way on.
 */
export function randomText(automaton: Automaton, random: () => number, length = 60): string {
  const classes = automaton.representatives();
  const bytes: number[] = [];
  let state: State = automaton.start;
  for (;;) {
    const at = state;
    const ways = classes.filter(({ byte }) => automaton.next(at, byte));
    if (at.isFinal || (at.accepts && (ways.length === 0 || random() < 0.2 || bytes.length > length))) break;
    if (ways.length === 0) throw new Error(`no way on after ${Buffer.from(bytes)}`);
    if (bytes.length > 200_000) throw new Error('the text does not end');
    // What closes something comes first once the text is long.
    const closing = ways.filter(({ byte }) => '"]}'.includes(String.fromCharCode(byte)));
    const from = bytes.length > length && closing.length > 0 ? closing : ways;
    const { set } = from[Math.floor(random() * from.length)] as (typeof ways)[number];
    const members = [...set.keys()].filter((byte) => set[byte] === 1);
    const byte = members[Math.floor(random() * members.length)] as number;
    bytes.push(byte);
    state = automaton.next(at, byte) as State;
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

/** Whether a text matches a grammar. */
export function matches(node: Node, text: string): boolean {
  const automaton = new Automaton(node);
  return automaton.read(automaton.start, Buffer.from(text, 'utf8'))?.accepts === true;
}
