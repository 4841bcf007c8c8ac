/** What sequences have computed before, to begin with where others begin alike. Pure: it knows blocks by their numbers only. */

/** What makes the keys and values of a token, besides all before it: its id, and more than that where a picture stands for it. */
export type TokenKey = number | string;

/** Who keeps count of who holds a numbered piece of memory: a block, or a slot of recurrent states. */
export interface PieceHolders {
  share(piece: number): number;
  give(piece: number): void;
  /** Whether anybody else holds it. */
  isShared(piece: number): boolean;
}

/** The slots of a model with recurrent states. */
export interface StateHolders extends PieceHolders {
  /** Blocks that take as much memory as a slot does. */
  readonly blocks: number;
}

/** A block, and the tokens whose keys and values it holds, after those of the nodes above. */
export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  readonly tokens: readonly TokenKey[];
  /** Its number, which changes when blocks are moved. */
  block: number;
  /** The slot of the recurrent states after the node's last token, where they are kept. */
  state: number | undefined;
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
  /** Where the recurrent states after these tokens lie; undefined in a model without, and where no token is known. */
  readonly state: number | undefined;
  /** Tokens that the sequence has in common with another, which are more than `tokens` where no state was kept at their end. */
  readonly common: number;
}

/** How far a sequence is in the tree of prefixes. */
export interface PrefixPlace {
  /** What it is computed by; sequences of different kinds share nothing. */
  readonly kind: string;
  /** The node of its last whole block; undefined once its blocks are kept no further. */
  node: PrefixNode | undefined;
  /** Whole blocks up to that. */
  blocks: number;
  /** Places, ascending, at which a pass is to end, for the recurrent states there to be kept. */
  stops: readonly number[];
  /** States after the last whole blocks of what followed the prompt, the latest last. */
  recent: readonly RecentState[];
  /** The last node it had. */
  last: PrefixNode | undefined;
}

export interface RecentState {
  readonly node: PrefixNode;
  /** Place behind the tokens that the states have taken in. */
  readonly end: number;
}

/**
 * A tree of blocks: what lies on a path from a root are the tokens of a sequence. Blocks stay when the sequences that computed them have
 * ended; beyond a bound, those that nobody has used for longest go, ends of paths first.
 *
 * A model with recurrent states can go on only from where these were kept. Then states go before blocks, those from which nobody has gone on
 * for longest first, and with them the blocks that lead to no other state.
 */
export class PrefixTree {
  readonly #holders: PieceHolders;
  readonly #states: StateHolders | undefined;
  readonly #blockTokens: number;
  /** Most memory it holds, in blocks. */
  readonly most: number;
  readonly #roots = new Map<string, PrefixNode>();
  /** Unused for longest first; a node is never before one below it. */
  readonly #nodes = new Set<PrefixNode>();
  /** Those with a state, by the last time that somebody went on from there. */
  readonly #resumable = new Set<PrefixNode>();

  /**
   * @param blockTokens tokens of a whole block
   * @param most memory it holds, in blocks
   * @param states of a model that has recurrent states
   */
  constructor(holders: PieceHolders, blockTokens: number, most: number, states?: StateHolders) {
    this.#holders = holders;
    this.#blockTokens = blockTokens;
    this.most = most;
    this.#states = states;
  }

  /** Blocks it holds. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Recurrent states it holds. */
  get stateCount(): number {
    return this.#resumable.size;
  }

  /** Whether sequences can go on only where a state was kept. */
  get keepsStates(): boolean {
    return this.#states !== undefined;
  }

  /** Where sequences of a kind begin, those that compute alike. */
  root(kind: string): PrefixNode {
    const known = this.#roots.get(kind);
    if (known) return known;
    const root = { parent: undefined, tokens: [], block: -1, state: undefined, children: new Set<never>() };
    this.#roots.set(kind, root);
    return root;
  }

  /**
   * The longest known beginning of a sequence from which it can go on.
   * @param keyAt the key of the token at a place
   * @param length tokens of the sequence that may be taken from here
   */
  match(root: PrefixNode, keyAt: (place: number) => TokenKey, length: number): PrefixMatch {
    let node = root;
    let tokens = 0;
    const blocks: number[] = [];
    let resumed: { from: PrefixNode; match: Omit<PrefixMatch, 'common'> } | undefined;
    for (;;) {
      for (const child of this.#states ? node.children : []) {
        const end = tokens + child.tokens.length;
        if (child.state === undefined || end > length) continue;
        if (commonFrom(child, tokens, keyAt, length) < child.tokens.length) continue;
        const isWhole = child.tokens.length === this.#blockTokens;
        const match = { blocks: [...blocks, child.block], tokens: end, state: child.state };
        if (end > (resumed?.match.tokens ?? 0))
          resumed = { from: child, match: { ...match, node: isWhole ? child : node } };
      }
      const { child, common } = longest(node, tokens, keyAt, length);
      if (!child) break;
      this.#use(child);
      blocks.push(child.block);
      tokens += common;
      if (common < this.#blockTokens) break;
      node = child;
    }
    if (!this.#states) return { node, blocks, tokens, state: undefined, common: tokens };
    if (!resumed) return { node: root, blocks: [], tokens: 0, state: undefined, common: tokens };
    this.#use(resumed.from);
    touch(this.#resumable, resumed.from);
    return { ...resumed.match, common: tokens };
  }

  /**
   * Keeps a block that continues a path, unless it is known.
   * @returns its node, which may be of another block with the same tokens; undefined where there is no room
   */
  add(node: PrefixNode, tokens: readonly TokenKey[], block: number): PrefixNode | undefined {
    for (const child of node.children) {
      const common = commonLength(child.tokens, tokens);
      // A state is that after all tokens of its node.
      if (common === tokens.length && (!this.#states || child.tokens.length === common)) {
        this.#use(child);
        return child;
      }
      // The end of a sequence that has gone on.
      if (common === child.tokens.length && child.children.size === 0) this.#remove(child);
    }
    if (!this.#makeRoom(1)) return undefined;
    const added: PrefixNode = {
      parent: node,
      tokens,
      block: this.#holders.share(block),
      state: undefined,
      children: new Set(),
    };
    node.children.add(added);
    this.#use(added);
    return added;
  }

  /** Keeps the recurrent states after a node's tokens, which lie in a slot, unless they are known or there is no room. */
  keepState(node: PrefixNode, slot: number): void {
    if (node.state === undefined) {
      if (!this.#states || !this.#makeRoom(this.#states.blocks)) return;
      node.state = this.#states.share(slot);
    }
    touch(this.#resumable, node);
  }

  /** Keeps the states after a node's tokens no longer. */
  dropState(node: PrefixNode): void {
    if (node.state === undefined) return;
    this.#states?.give(node.state);
    node.state = undefined;
    this.#resumable.delete(node);
  }

  /** Gives back what leads from the node upwards to no state and is in no use, in a model that can go on only from states. */
  prune(end: PrefixNode): void {
    for (let node = end; this.#states && node.parent && !this.#isNeeded(node); ) {
      const { parent } = node;
      this.#remove(node);
      node = parent;
    }
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

  /** Gives up to `count` slots back that nobody else holds; returns how many. */
  evictStates(count: number): number {
    let evicted = 0;
    for (const node of this.#resumable) {
      if (evicted === count) break;
      if (this.#states?.isShared(node.state as number)) continue;
      this.dropState(node);
      this.prune(node);
      evicted++;
    }
    return evicted;
  }

  /** The blocks it holds. */
  get blocks(): number[] {
    return [...this.#nodes].map(({ block }) => block);
  }

  /** The slots it holds. */
  get states(): number[] {
    return [...this.#resumable].map(({ state }) => state as number);
  }

  /** How many blocks and slots nobody else holds. */
  get idle(): { readonly blocks: number; readonly states: number } {
    const count = (pieces: readonly number[], holders: PieceHolders | undefined) =>
      pieces.filter((piece) => !holders?.isShared(piece)).length;
    return { blocks: count(this.blocks, this.#holders), states: count(this.states, this.#states) };
  }

  /** Follows blocks that were moved; whoever moved them sees to their holders. */
  renumber(numberOf: (block: number) => number): void {
    for (const node of this.#nodes) node.block = numberOf(node.block);
  }

  /** Follows slots that were moved. */
  renumberStates(numberOf: (slot: number) => number): void {
    for (const node of this.#resumable) node.state = numberOf(node.state as number);
  }

  /** Gives all blocks and slots back. */
  clear(): void {
    for (const node of [...this.#resumable]) this.dropState(node);
    for (const node of this.#nodes) this.#holders.give(node.block);
    this.#nodes.clear();
    this.#roots.clear();
  }

  /** Sees to it that it may hold so much more, in blocks. */
  #makeRoom(wanted: number): boolean {
    const states = this.#states?.blocks ?? 0;
    while (this.size + this.stateCount * states + wanted > this.most)
      if (this.evictStates(1) === 0 && this.evict(1) === 0) return false;
    return true;
  }

  /** Notes that a node has been used, and with it all above. */
  #use(used: PrefixNode): void {
    for (let node = used; node.parent; node = node.parent) touch(this.#nodes, node);
  }

  #isNeeded({ children, state, block }: PrefixNode): boolean {
    return children.size > 0 || state !== undefined || this.#holders.isShared(block);
  }

  #remove(node: PrefixNode): void {
    this.dropState(node);
    node.parent?.children.delete(node);
    this.#nodes.delete(node);
    this.#holders.give(node.block);
  }
}

/** Makes it the last of the set. */
function touch<T>(set: Set<T>, item: T): void {
  set.delete(item);
  set.add(item);
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
    const common = commonFrom(child, from, keyAt, length);
    if (common > most) [best, most] = [child, common];
  }
  return { child: best, common: most };
}

/** How many of a node's tokens are those of the sequence from a place on. */
function commonFrom(
  { tokens }: PrefixNode,
  from: number,
  keyAt: (place: number) => TokenKey,
  length: number,
): number {
  let common = 0;
  while (common < tokens.length && from + common < length && tokens[common] === keyAt(from + common))
    common++;
  return common;
}

function commonLength(a: readonly TokenKey[], b: readonly TokenKey[]): number {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  return common;
}
