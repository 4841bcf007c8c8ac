/** One event of a stream, as `text/event-stream` has it. */
export interface ServerEvent {
  readonly event?: string;
  /** JSON, or a text that stands as it is. */
  readonly data: unknown;
}

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform',
  // Proxies of the kind of nginx would hold it back otherwise.
  'x-accel-buffering': 'no',
};

/** How long a stream waits, in milliseconds. */
export interface Patience {
  /** For an event, before a comment keeps the connection open. */
  readonly pingInterval: number;
  /** For its reader to take what it has, before it is ended. */
  readonly sendTimeout: number;
}

/**
 * Answers with events as they come. Nothing is made that is not read: a reader that stops has the stream wait, and ends it when it goes away, or
 * reads nothing for too long. Where nothing comes, comments keep the connection open.
 *
 * @param failed what is sent of an error in the midst of the stream
 * @param left the reader has gone, or the stream is over
 */
export function eventStream(
  events: AsyncGenerator<ServerEvent, void, undefined>,
  { pingInterval, sendTimeout }: Patience,
  failed: (error: unknown) => ServerEvent,
  left: () => void,
): Response {
  const encoder = new TextEncoder();
  let pending: Promise<IteratorResult<ServerEvent, void>> | undefined;
  let hasLeft = false;
  let unread: NodeJS.Timeout | undefined;
  const leave = () => {
    clearTimeout(unread);
    hasLeft = true;
    left();
    events.return().catch(() => {});
  };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearTimeout(unread);
      const send = (text: string) => {
        controller.enqueue(encoder.encode(text));
        // Whoever reads pulls at once.
        unread = setTimeout(() => {
          leave();
          controller.error(new Error(`A stream was ended: its reader took nothing for ${sendTimeout} ms`));
        }, sendTimeout);
      };
      pending ??= events.next();
      try {
        const next = await withPing(pending, pingInterval);
        // What comes for a reader that has gone is nobody's fault.
        if (hasLeft) return;
        if (next === PING) return send(': ping\n\n');
        pending = undefined;
        if (!next.done) return send(lines(next.value));
      } catch (error) {
        if (hasLeft) return;
        controller.enqueue(encoder.encode(lines(failed(error))));
      }
      left();
      controller.close();
    },
    cancel: leave,
  });
  return new Response(body, { headers: HEADERS });
}

function lines({ event, data }: ServerEvent): string {
  const text = typeof data === 'string' ? data : JSON.stringify(data);
  return `${event === undefined ? '' : `event: ${event}\n`}data: ${text}\n\n`;
}

const PING = Symbol('nothing has come for a while');

async function withPing<T>(pending: Promise<T>, interval: number): Promise<T | typeof PING> {
  let timer: NodeJS.Timeout | undefined;
  const ping = new Promise<typeof PING>((resolve) => {
    timer = setTimeout(() => resolve(PING), interval);
  });
  try {
    return await Promise.race([pending, ping]);
  } finally {
    clearTimeout(timer);
  }
}
