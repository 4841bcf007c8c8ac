import { Automaton, type State } from './automaton.ts';
import { type MachineState, NEVER, type Node } from './grammar.ts';

/** States of a product after which it is given up. */
const MOST_STATES = 10_000;

/**
 * What matches all of several nodes, as a finite automaton; none of them may hold references.
 * @param check called for each state; may fail where it takes too long
 * @returns undefined where that would be too large
 */
export function intersect(nodes: readonly Node[], check: () => void = () => {}): Node | undefined {
  const [first, ...rest] = nodes;
  return rest.reduce<Node | undefined>((a, b) => a && product(a, b, check), first);
}

function product(a: Node, b: Node, check: () => void): Node | undefined {
  const [left, right] = [new Automaton(a), new Automaton(b)];
  const classes = left
    .representatives()
    .flatMap((one) =>
      right.representatives().map((two) => ({ set: one.set.map((bit, i) => bit & (two.set[i] as number)) })),
    )
    .map(({ set }) => ({ set, byte: set.indexOf(1) }))
    .filter(({ byte }) => byte !== -1);
  const numbers = new Map<State, Map<State, number>>();
  const pairs: (readonly [State, State])[] = [];
  const numberOf = (one: State, two: State): number => {
    const row = numbers.get(one) ?? new Map<State, number>();
    numbers.set(one, row);
    let number = row.get(two);
    if (number === undefined) {
      number = pairs.length;
      row.set(two, number);
      pairs.push([one, two]);
    }
    return number;
  };
  numberOf(left.start, right.start);
  const states: { edges: { set: Uint8Array; to: number }[]; accepts: boolean }[] = [];
  for (const [one, two] of pairs) {
    if (pairs.length > MOST_STATES) return undefined;
    check();
    const byTarget = new Map<number, Uint8Array>();
    for (const { set, byte } of classes) {
      const [next, other] = [left.next(one, byte), right.next(two, byte)];
      if (!next || !other) continue;
      const to = numberOf(next, other);
      const known = byTarget.get(to);
      byTarget.set(to, known ? known.map((bit, i) => bit | (set[i] as number)) : set);
    }
    const edges = [...byTarget].map(([to, set]) => ({ set, to }));
    states.push({ edges, accepts: one.accepts && two.accepts });
  }
  return alive(states);
}

/** Without ways into states that lead to no end. */
function alive(states: readonly MachineState[]): Node {
  const before = states.map((): number[] => []);
  for (const [from, { edges }] of states.entries()) for (const { to } of edges) before[to]?.push(from);
  const living = new Set(states.flatMap(({ accepts }, i) => (accepts ? [i] : [])));
  for (const state of living) for (const from of before[state] as number[]) living.add(from);
  if (!living.has(0)) return NEVER;
  const kept = states.map(({ edges, accepts }) => ({
    edges: edges.filter(({ to }) => living.has(to)),
    accepts,
  }));
  return { kind: 'machine', states: kept };
}
