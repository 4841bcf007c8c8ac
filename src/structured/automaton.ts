import { type ByteSet, type Node, reachable } from './grammar.ts';

/**
 * References that may be open within each other: how deep what is generated can be nested. What a rule needs to come to an end counts
 * before it is entered, so that the bound never leaves a state without a way on.
 */
const MOST_NESTED = 64;
/** Cells after which what has been worked out is forgotten, and worked out again where it is needed. */
const MOST_CELLS = 100_000;

/** What is still to come: the rest of one node, from a place in it, and then the cell below. Cells are shared by all states. */
interface Cell {
  readonly id: number;
  readonly node: Node;
  /** Position in a literal or sequence, rounds of a repetition, state of a machine. */
  readonly at: number;
  /** Undefined at the very end. */
  readonly rest: Cell | undefined;
  /** References open below. */
  readonly depth: number;
  readonly above: Map<number, Cell>;
  heads: Heads | undefined;
}

/** The ways a cell can begin. */
interface Heads {
  readonly edges: readonly { readonly set: ByteSet; readonly to: Cell }[];
  /** Whether it can be nothing at all. */
  readonly accepts: boolean;
}

/** A point in what is read: immutable, so that going back or on from it in several ways costs nothing. */
export interface State {
  /** Whether the text may end here. */
  readonly accepts: boolean;
  /** Whether it must. */
  readonly isFinal: boolean;
  /** @internal */
  readonly cells: readonly Cell[];
  /** @internal By class of bytes; null: no way on. Filled as it is asked for. */
  readonly table: (State | null | undefined)[];
  /** @internal Bytes that may follow. Filled when it is asked for. */
  following: readonly number[] | undefined;
}

/**
 * A pushdown automaton over bytes, made deterministic as it runs: a state is the set of all continuations that are still possible, each
 * a stack of cells that share what lies below. States and steps are remembered, so that the text of a long string, say, costs one look-up
 * a byte.
 */
export class Automaton {
  readonly start: State;
  /** Bytes that no set of the grammar tells apart have one number. */
  readonly #classOf: Uint8Array;
  readonly #classes: number;
  readonly #numbers: ReadonlyMap<Node, number>;
  readonly #nesting: ReadonlyMap<Node, number>;
  readonly #root: Node;
  #states = new Map<string, State>();
  #end: Cell;
  #cells = 0;

  constructor(root: Node) {
    const nodes = reachable(root);
    this.#root = root;
    this.#numbers = new Map(nodes.map((node, i) => [node, i]));
    this.#nesting = nestingOf(nodes);
    [this.#classOf, this.#classes] = classify(nodes);
    this.#end = this.#newCell(root, -1, undefined);
    this.start = this.#state([this.#cell(root, 0, this.#end)]);
  }

  /** The state after one more byte; undefined where none may follow. */
  next(state: State, byte: number): State | undefined {
    const at = this.#classOf[byte] as number;
    let next = state.table[at];
    if (next === undefined) {
      next = this.#step(state, byte);
      state.table[at] = next;
    }
    return next ?? undefined;
  }

  /** The state after these bytes; undefined where they may not follow. */
  read(state: State, bytes: Uint8Array): State | undefined {
    let at: State | undefined = state;
    for (let i = 0; i < bytes.length && at; i++) at = this.next(at, bytes[i] as number);
    return at;
  }

  /** The bytes that may come next, in ascending order. */
  following(state: State): readonly number[] {
    if (!state.following) {
      const sets = state.cells.flatMap((cell) => this.#heads(cell).edges.map(({ set }) => set));
      state.following = BYTES.filter((byte) => sets.some((set) => set[byte] === 1));
    }
    return state.following;
  }

  /** Cells that are remembered. */
  get size(): number {
    return this.#cells;
  }

  /** A member of each class of bytes. */
  representatives(): { readonly byte: number; readonly set: ByteSet }[] {
    return Array.from({ length: this.#classes }, (_, number) => ({
      byte: this.#classOf.indexOf(number),
      set: this.#classOf.map((one) => (one === number ? 1 : 0)),
    }));
  }

  /** The same state, with what else was remembered forgotten once that is much. To be called now and then by what runs long. */
  trimmed(state: State): State {
    if (this.#cells <= MOST_CELLS) return state;
    this.#cells = 0;
    this.#states = new Map();
    this.#end = this.#newCell(this.#root, -1, undefined);
    const copies = new Map<Cell, Cell>();
    const copy = (cell: Cell): Cell => {
      const known = copies.get(cell);
      if (known) return known;
      const made = cell.rest ? this.#cell(cell.node, cell.at, copy(cell.rest)) : this.#end;
      copies.set(cell, made);
      return made;
    };
    return this.#state(state.cells.map(copy));
  }

  #step(state: State, byte: number): State | null {
    const reached = new Set<Cell>();
    for (const cell of state.cells)
      for (const { set, to } of this.#heads(cell).edges) if (set[byte] === 1) reached.add(to);
    return reached.size === 0 ? null : this.#state([...reached]);
  }

  #state(cells: readonly Cell[]): State {
    const sorted = [...cells].sort((a, b) => a.id - b.id);
    const key = sorted.map(({ id }) => id).join();
    let state = this.#states.get(key);
    if (!state) {
      const heads = sorted.map((cell) => this.#heads(cell));
      const accepts = heads.some((one) => one.accepts);
      const isFinal = accepts && heads.every((one) => one.edges.length === 0);
      state = { accepts, isFinal, cells: sorted, table: [], following: undefined };
      this.#states.set(key, state);
    }
    return state;
  }

  #heads(cell: Cell): Heads {
    if (cell.heads) return cell.heads;
    const edges: { set: ByteSet; to: Cell }[] = [];
    const seen = new Set<Cell>();
    let accepts = false;
    const open = [cell];
    for (let one = open.pop(); one; one = open.pop()) {
      if (seen.has(one)) continue;
      seen.add(one);
      if (one.rest === undefined) accepts = true;
      else this.#expand(one, one.rest, edges, open);
    }
    cell.heads = { edges, accepts };
    return cell.heads;
  }

  /** Adds what a cell can begin with to `edges`, and the cells that it may stand for to `open`. */
  #expand(cell: Cell, rest: Cell, edges: { set: ByteSet; to: Cell }[], open: Cell[]): void {
    const { node, at } = cell;
    switch (node.kind) {
      case 'byte':
        edges.push({ set: node.set, to: rest });
        break;
      case 'literal':
        edges.push({
          set: single(node.bytes[at] as number),
          to: at + 1 < node.bytes.length ? this.#cell(node, at + 1, rest) : rest,
        });
        break;
      case 'sequence': {
        const { items } = node;
        const below = at + 1 < items.length ? this.#cell(node, at + 1, rest) : rest;
        if (items.length === 0) open.push(rest);
        else this.#enter(items[at] as Node, below, open);
        break;
      }
      case 'choice':
        for (const item of node.items) this.#enter(item, rest, open);
        break;
      case 'repeat': {
        if (at >= node.min) open.push(rest);
        // Without an upper bound, rounds beyond the least need not be told apart.
        const round = node.max === Infinity ? Math.min(at + 1, node.min) : at + 1;
        if (at < node.max) this.#enter(node.item, this.#cell(node, round, rest), open);
        break;
      }
      case 'machine': {
        const { edges: own, accepts } = node.states[at] as (typeof node.states)[number];
        for (const { set, to } of own) edges.push({ set, to: this.#cell(node, to, rest) });
        if (accepts) open.push(rest);
        break;
      }
      case 'reference': {
        if (at === 1) open.push(rest);
        else this.#enter(node.target as Node, this.#cell(node, 1, rest), open);
      }
    }
  }

  /** Begins a node, unless it would nest too deep before it comes to an end. */
  #enter(node: Node, rest: Cell, open: Cell[]): void {
    if (rest.depth + (this.#nesting.get(node) as number) <= MOST_NESTED) open.push(this.#cell(node, 0, rest));
  }

  #cell(node: Node, at: number, rest: Cell): Cell {
    const key = (this.#numbers.get(node) as number) * 2 ** 24 + at;
    let cell = rest.above.get(key);
    if (!cell) {
      cell = this.#newCell(node, at, rest);
      rest.above.set(key, cell);
    }
    return cell;
  }

  #newCell(node: Node, at: number, rest: Cell | undefined): Cell {
    const isOpen = node.kind === 'reference' && at === 1;
    const depth = (rest?.depth ?? 0) + (isOpen ? 1 : 0);
    nextId++;
    this.#cells++;
    return { id: nextId, node, at, rest, depth, above: new Map(), heads: undefined };
  }
}

/** Ids are never used again, so that states outlive what was forgotten. */
let nextId = 0;

const BYTES: readonly number[] = [...Array(256).keys()];

const SINGLES: (ByteSet | undefined)[] = [];

function single(byte: number): ByteSet {
  let set = SINGLES[byte];
  if (!set) {
    set = new Uint8Array(256);
    set[byte] = 1;
    SINGLES[byte] = set;
  }
  return set;
}

/** Numbers bytes so that two have one number where every set has both or neither. */
function classify(nodes: readonly Node[]): [Uint8Array, number] {
  const sets = new Set<ByteSet>();
  for (const node of nodes) {
    if (node.kind === 'byte') sets.add(node.set);
    else if (node.kind === 'literal') for (const one of node.bytes) sets.add(single(one));
    else if (node.kind === 'machine')
      for (const state of node.states) for (const { set } of state.edges) sets.add(set);
  }
  let classOf = new Uint8Array(256);
  let count = 1;
  for (const set of sets) {
    const parts = new Map<number, number>();
    const finer = new Uint8Array(256);
    for (let i = 0; i < 256; i++) {
      const key = (classOf[i] as number) * 2 + (set[i] as number);
      let part = parts.get(key);
      if (part === undefined) {
        part = parts.size;
        parts.set(key, part);
      }
      finer[i] = part;
    }
    if (parts.size > count) {
      classOf = finer;
      count = parts.size;
    }
    if (count === 256) break;
  }
  return [classOf, count];
}

/**
 * The least references that must be open within each other until a node has come to an end, by reference; Infinity for one that never
 * does. Found by going round until nothing changes.
 */
export function nestingOf(nodes: readonly Node[]): Map<Node, number> {
  const least = new Map<Node, number>(nodes.map((node) => [node, Infinity]));
  const of = (node: Node) => least.get(node) as number;
  const compute = (node: Node): number => {
    switch (node.kind) {
      case 'sequence':
        return Math.max(0, ...node.items.map(of));
      case 'choice':
        return Math.min(Infinity, ...node.items.map(of));
      case 'repeat':
        return node.min === 0 ? 0 : of(node.item);
      case 'reference':
        return 1 + of(node.target as Node);
      case 'machine':
        return node.states.some(({ accepts }) => accepts) ? 0 : Infinity;
      default:
        return 0;
    }
  };
  // Parts come after what is made of them, as `reachable` lists them; so from the end it takes few rounds.
  for (let changed = true; changed; ) {
    changed = false;
    for (let i = nodes.length - 1; i >= 0; i--) {
      const node = nodes[i] as Node;
      const value = compute(node);
      if (value < of(node)) {
        least.set(node, value);
        changed = true;
      }
    }
  }
  return least;
}
