/** What the page asks of its server. Paths are relative, so that the server may be mounted anywhere. */

const KEY = 'switchyard-key';

/** What a server says against a request. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} key kept for as long as the tab is open */
export function rememberKey(key) {
  sessionStorage.setItem(KEY, key);
}

/**
 * @param {string} path
 * @param {{ body?: unknown, signal?: AbortSignal | undefined }} [options] with a body: POST
 * @throws {Refusal}
 */
async function ask(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const response = await fetch(path, {
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    ...(signal && { signal }),
    headers: {
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(key !== null && { authorization: `Bearer ${key}` }),
    },
  });
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(response.status, told.error?.message ?? `The server answered ${response.status}`);
}

/**
 * A model as `/v1/models` has it.
 * @typedef {object} Model
 * @property {string} id
 * @property {boolean} loaded the rest is known only then
 * @property {boolean | null} vision
 * @property {{ implementation: string, available: string[] } | null} experts
 */

/** @returns {Promise<Model[]>} */
export async function models() {
  return (await (await ask('v1/models')).json()).data;
}

/**
 * A chunk of an answer.
 * @typedef {{
 *   choices: { delta: { content?: string, reasoning_content?: string }, finish_reason: string | null }[],
 *   usage?: { completion_tokens: number } | null,
 * }} Chunk
 */

/**
 * An answer, piece by piece.
 * @param {object} request of chat completions
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Chunk>}
 */
export async function* answer(request, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  yield* events(await ask('v1/chat/completions', { body, signal }));
}

/**
 * What a model does, several times a second.
 * @typedef {{
 *   running: number,
 *   waiting: number,
 *   routing: { layers: number[], experts: number, tokens: number, load: number[][] } | null,
 * }} Activity
 */

/**
 * @param {string} model
 * @param {boolean} routing whether to be told of the experts
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Activity>}
 */
export async function* activity(model, routing, signal) {
  const query = new URLSearchParams({ model, routing: String(routing) });
  yield* events(await ask(`activity?${query}`, { signal }));
}

/**
 * The JSON of server-sent events.
 * @param {Response} response
 */
async function* events(response) {
  let text = '';
  for await (const piece of decoded(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
    text += piece;
    const lines = text.split('\n');
    text = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      const data = /^data: (.*)/.exec(line)?.[1];
      if (data === undefined || data === '[DONE]') continue;
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(500, event.error.message);
      yield event;
    }
  }
}

/**
 * The text of a stream. Streams are not read by `for await` everywhere yet.
 * @param {ReadableStream<Uint8Array>} stream
 */
async function* decoded(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
