/** What runs in the next pass. Pure: it sees no model, no clock and no memory. */

/** A request for the next tokens' scores of some sequences. */
export interface Waiting {
  /** Tokens that each of its sequences has still to compute, at least one in all. */
  readonly pending: readonly number[];
  /** Whether all of them have to come in one pass, as do tokens whose scores are asked for. */
  readonly isWhole?: boolean;
  /** Requests of different keys (experts backends, say) cannot share a pass. */
  readonly key: string;
}

/** A request's part of a pass. */
export interface Share {
  /** Place of the request in the queue. */
  readonly request: number;
  /** Tokens of each of its sequences; 0 where one is not in the pass. */
  readonly tokens: readonly number[];
}

export interface PassLimits {
  /** Most tokens of a pass. */
  readonly tokens: number;
  /** Most tokens of prompts in a pass that also holds decoding rows, which wait for them. */
  readonly besideDecoding: number;
}

/** Of the room for prompts, what is kept for prompts shorter than the oldest. */
const SHORT_SHARE = 0.25;

/**
 * Decoding rows go first and whole: each is one token, and somebody waits for it. Prompts share what is left: the oldest gets most of it,
 * the rest goes to the shortest of the others, so that a long prompt does not hold up short ones.
 *
 * @param queue oldest first; the oldest says of which key the pass is
 * @returns in the queue's order; every request that decodes, or the oldest, has tokens in it
 */
export function planPass(queue: readonly Waiting[], limits: PassLimits): Share[] {
  const key = queue[0]?.key;
  const candidates = queue.map((waiting, request) => ({ ...waiting, request })).filter((w) => w.key === key);
  const decoding = candidates.filter(isDecoding);
  const shares = new Map<number, number[]>();
  let room = limits.tokens;
  for (const { request, pending } of decoding) {
    const tokens = pending.reduce((sum, count) => sum + count, 0);
    if (shares.size > 0 && tokens > room) continue;
    shares.set(request, [...pending]);
    room -= tokens;
  }
  const prompts = candidates.filter((waiting) => !isDecoding(waiting));
  if (shares.size > 0) room = Math.min(room, limits.besideDecoding);
  const [oldest, ...others] = prompts;
  if (oldest && room > 0) {
    const shorter = others.filter((waiting) => total(waiting) < total(oldest));
    const kept = shorter.length > 0 ? Math.floor(room * SHORT_SHARE) : 0;
    room -= give(shares, oldest, room - kept);
    for (const waiting of [...shorter].sort((a, b) => total(a) - total(b)))
      room -= give(shares, waiting, room);
    for (const waiting of others) if (!shares.has(waiting.request)) room -= give(shares, waiting, room);
  }
  return [...shares]
    .sort(([a], [b]) => a - b)
    .map(([request, tokens]) => ({ request, tokens }))
    .filter(({ tokens }) => tokens.some((count) => count > 0));
}

/** Whether all of a request's sequences wait for a single token, or for few that belong together. */
function isDecoding({ pending, isWhole }: Waiting): boolean {
  return isWhole || pending.every((count) => count <= 1);
}

function total({ pending }: Waiting): number {
  return pending.reduce((sum, count) => sum + count, 0);
}

/** So many tokens at a time in parts of at most `room`: equal ones, since a short last part would cost a pass of its own. */
export function equalPart(tokens: number, room: number): number {
  return tokens === 0 ? 0 : Math.ceil(tokens / Math.ceil(tokens / room));
}

/** Gives a prompt's sequences tokens in their order, up to `room`; returns how many. */
function give(
  shares: Map<number, number[]>,
  { request, pending }: Waiting & { request: number },
  room: number,
): number {
  let left = room;
  const tokens = pending.map((count) => {
    const part = left > 0 ? equalPart(count, left) : 0;
    left -= part;
    // The next sequence starts only when this one has ended.
    if (part < count) left = 0;
    return part;
  });
  shares.set(request, tokens);
  return tokens.reduce((sum, count) => sum + count, 0);
}
