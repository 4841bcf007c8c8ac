/** A set of bytes: 1 at the place of each member. */
export type ByteSet = Uint8Array;

/**
 * What bytes may follow each other. Nodes are plain data and may be shared; only a `reference` can lead back to a node that contains it.
 * An `Automaton` reads them.
 */
export type Node =
  | { readonly kind: 'byte'; readonly set: ByteSet }
  | { readonly kind: 'literal'; readonly bytes: Uint8Array }
  | { readonly kind: 'sequence'; readonly items: readonly Node[] }
  | { readonly kind: 'choice'; readonly items: readonly Node[] }
  | { readonly kind: 'repeat'; readonly item: Node; readonly min: number; readonly max: number }
  | { readonly kind: 'machine'; readonly states: readonly MachineState[] }
  | Reference;

/** A place for a node that is not there yet. */
export interface Reference {
  readonly kind: 'reference';
  target: Node | undefined;
}

/** One state of a finite automaton; the first of a list is where it starts. */
export interface MachineState {
  readonly edges: readonly { readonly set: ByteSet; readonly to: number }[];
  /** Whether the machine may be left here. */
  readonly accepts: boolean;
}

/** Nothing at all, which always matches. */
export const EMPTY: Node = { kind: 'sequence', items: [] };
/** What never matches. */
export const NEVER: Node = { kind: 'choice', items: [] };

/** @param ranges first and last byte of each */
export function byteSet(ranges: readonly (readonly [number, number])[]): ByteSet {
  const set = new Uint8Array(256);
  for (const [first, last] of ranges) set.fill(1, first, last + 1);
  return set;
}

export function byte(...ranges: readonly (readonly [number, number])[]): Node {
  return { kind: 'byte', set: byteSet(ranges) };
}

export function literal(text: string): Node {
  return text === '' ? EMPTY : { kind: 'literal', bytes: Buffer.from(text, 'utf8') };
}

export function sequence(...items: readonly Node[]): Node {
  const real = items.filter((item) => item !== EMPTY);
  return real.length === 1
    ? (real[0] as Node)
    : real.length === 0
      ? EMPTY
      : { kind: 'sequence', items: real };
}

export function choice(...items: readonly Node[]): Node {
  const real = items.filter((item) => item !== NEVER);
  return real.length === 1 ? (real[0] as Node) : real.length === 0 ? NEVER : { kind: 'choice', items: real };
}

export function repeat(item: Node, min: number, max: number = Infinity): Node {
  if (max === 0) return EMPTY;
  return min === 1 && max === 1 ? item : { kind: 'repeat', item, min, max };
}

export function optional(item: Node): Node {
  return repeat(item, 0, 1);
}

/** Nodes that a node is made of. */
function partsOf(node: Node): readonly Node[] {
  switch (node.kind) {
    case 'sequence':
    case 'choice':
      return node.items;
    case 'repeat':
      return [node.item];
    case 'reference':
      return node.target ? [node.target] : [];
    default:
      return [];
  }
}

/** Every node that can be reached from one, itself first, each once. */
export function reachable(root: Node): Node[] {
  const found = new Set<Node>([root]);
  for (const node of found) for (const part of partsOf(node)) found.add(part);
  return [...found];
}
