/** What sequences have computed before, to begin with where others begin alike. Pure: it knows blocks by their numbers only. */

/** What makes the keys and values of a token, besides all before it: its id, and more than that where a picture stands for it. */
export type TokenKey = number | string;

/** Who keeps count of who holds a block. */
export interface BlockHolders {
  share(block: number): number;
  give(block: number): void;
  /** Whether anybody else holds it. */
  isShared(block: number): boolean;
}

/** A block, and the tokens whose keys and values it holds, after those of the nodes above. */
export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  readonly tokens: readonly TokenKey[];
  /** Its number, which changes when blocks are moved. */
  block: number;
  readonly children: Set<PrefixNode>;
}

/** The beginning of a sequence that is known. */
export interface PrefixMatch {
  /** The last block that is known whole, or the root. */
  readonly node: PrefixNode;
  /** In their order; of the last one perhaps only the first tokens are the sequence's. */
  readonly blocks: readonly number[];
  /** Tokens in them. */
  readonly tokens: number;
}

/** How far a sequence is in the tree of prefixes. */
export interface PrefixPlace {
  /** What it is computed by; sequences of different kinds share nothing. */
  readonly kind: string;
  /** The node of its last whole block; undefined once its blocks are kept no further. */
  node: PrefixNode | undefined;
  /** Whole blocks up to that. */
  blocks: number;
}

/**
 * A tree of blocks: what lies on a path from a root are the tokens of a sequence. Blocks stay when the sequences that computed them have
 * ended; beyond a bound, those that nobody has used for longest go, ends of paths first.
 */
export class PrefixTree {
  readonly #holders: BlockHolders;
  readonly #blockTokens: number;
  /** Most blocks it holds. */
  readonly most: number;
  readonly #roots = new Map<string, PrefixNode>();
  /** Unused for longest first; a node is never before one below it. */
  readonly #nodes = new Set<PrefixNode>();

  /**
   * @param blockTokens tokens of a whole block
   * @param most blocks it holds
   */
  constructor(holders: BlockHolders, blockTokens: number, most: number) {
    this.#holders = holders;
    this.#blockTokens = blockTokens;
    this.most = most;
  }

  /** Blocks it holds. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Where sequences of a kind begin, those that compute alike. */
  root(kind: string): PrefixNode {
    const root = this.#roots.get(kind) ?? { parent: undefined, tokens: [], block: -1, children: new Set() };
    this.#roots.set(kind, root);
    return root;
  }

  /**
   * The longest known beginning of a sequence.
   * @param keyAt the key of the token at a place
   * @param length tokens of the sequence that may be taken from here
   */
  match(root: PrefixNode, keyAt: (place: number) => TokenKey, length: number): PrefixMatch {
    let node = root;
    let tokens = 0;
    const blocks: number[] = [];
    for (;;) {
      const { child, common } = longest(node, tokens, keyAt, length);
      if (!child) break;
      this.#use(child);
      blocks.push(child.block);
      tokens += common;
      if (common < this.#blockTokens) break;
      node = child;
    }
    return { node, blocks, tokens };
  }

  /**
   * Keeps a block that continues a path, unless it is known.
   * @returns its node, which may be of another block with the same tokens; undefined where there is no room
   */
  add(node: PrefixNode, tokens: readonly TokenKey[], block: number): PrefixNode | undefined {
    for (const child of node.children) {
      const common = commonLength(child.tokens, tokens);
      if (common === tokens.length) {
        this.#use(child);
        return child;
      }
      // The end of a sequence that has gone on.
      if (common === child.tokens.length && child.children.size === 0) this.#remove(child);
    }
    if (this.#nodes.size >= this.most && this.evict(1) === 0) return undefined;
    const added: PrefixNode = {
      parent: node,
      tokens,
      block: this.#holders.share(block),
      children: new Set(),
    };
    node.children.add(added);
    this.#use(added);
    return added;
  }

  /** Gives up to `count` blocks back that nobody else holds; returns how many. */
  evict(count: number): number {
    let evicted = 0;
    for (const node of this.#nodes) {
      if (evicted === count) break;
      if (node.children.size > 0 || this.#holders.isShared(node.block)) continue;
      this.#remove(node);
      evicted++;
    }
    return evicted;
  }

  /** The blocks it holds. */
  get blocks(): number[] {
    return [...this.#nodes].map(({ block }) => block);
  }

  /** Follows blocks that were moved; whoever moved them sees to their holders. */
  renumber(numberOf: (block: number) => number): void {
    for (const node of this.#nodes) node.block = numberOf(node.block);
  }

  /** Gives all blocks back. */
  clear(): void {
    for (const node of this.#nodes) this.#holders.give(node.block);
    this.#nodes.clear();
    this.#roots.clear();
  }

  /** Notes that a node has been used, and with it all above. */
  #use(used: PrefixNode): void {
    for (let node = used; node.parent; node = node.parent) {
      this.#nodes.delete(node);
      this.#nodes.add(node);
    }
  }

  #remove(node: PrefixNode): void {
    node.parent?.children.delete(node);
    this.#nodes.delete(node);
    this.#holders.give(node.block);
  }
}

/** The child that has most in common with the sequence from a place on. */
function longest(
  { children }: PrefixNode,
  from: number,
  keyAt: (place: number) => TokenKey,
  length: number,
): { child: PrefixNode | undefined; common: number } {
  let best: PrefixNode | undefined;
  let most = 0;
  for (const child of children) {
    const { tokens } = child;
    let common = 0;
    while (common < tokens.length && from + common < length && tokens[common] === keyAt(from + common))
      common++;
    if (common > most) [best, most] = [child, common];
  }
  return { child: best, common: most };
}

function commonLength(a: readonly TokenKey[], b: readonly TokenKey[]): number {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  return common;
}
