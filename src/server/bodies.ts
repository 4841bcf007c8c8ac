import type { Context, MiddlewareHandler } from 'hono';
import { formatBytes } from '../units.ts';
import { ApiError } from './api-error.ts';

/**
 * The bodies of all requests: each is bounded, and what they take together, from the moment that their bytes come until they are answered,
 * whether they are still coming, wait for their turn, or have it.
 */
export class Bodies {
  readonly #most: number;
  readonly #mostTogether: number;
  readonly #held = new WeakMap<Context, number>();
  #together = 0;

  /**
   * @param most bytes of one body
   * @param mostTogether bytes of all
   */
  constructor(most: number, mostTogether: number) {
    this.#most = most;
    this.#mostTogether = mostTogether;
  }

  /** Bytes that are held at the moment. */
  get bytes(): number {
    return this.#together;
  }

  /** Gives back what a request has read, once it has its response. */
  readonly release: MiddlewareHandler = async (c, next) => {
    try {
      await next();
    } finally {
      this.keep(c)();
    }
  };

  /** For a response that goes on when its endpoint has returned. @returns gives back what the request has read, once */
  keep(c: Context): () => void {
    let bytes = this.#held.get(c) ?? 0;
    this.#held.delete(c);
    return () => {
      this.#together -= bytes;
      bytes = 0;
    };
  }

  /**
   * The body of a request as text.
   * @throws ApiError where it is too large (413), or there is no room for it at the moment (503); what the connection throws
   */
  async read(c: Context): Promise<string> {
    // What a request announces takes nothing yet, but need not come where there is no room for it.
    this.#check(0, Number(c.req.header('content-length') ?? 0));
    const decoder = new TextDecoder();
    let text = '';
    let bytes = 0;
    // Without cancelling what is refused: that would end the connection before the refusal is sent.
    const reader = c.req.raw.body?.getReader();
    for (let next = await reader?.read(); next?.value; next = await reader?.read()) {
      const piece: Uint8Array = next.value;
      this.#check(bytes, piece.length);
      bytes += piece.length;
      this.#together += piece.length;
      this.#held.set(c, bytes);
      text += decoder.decode(piece, { stream: true });
    }
    return text + decoder.decode();
  }

  #check(bytes: number, more: number): void {
    if (bytes + more > this.#most) throw new ApiError(413, `The request is larger than ${this.#most} bytes`);
    if (this.#together + more > this.#mostTogether)
      throw new ApiError(
        503,
        `The server has no room for this request at the moment: those it is answering take ${formatBytes(this.#together)}`,
        { retryAfter: 1 },
      );
  }
}
