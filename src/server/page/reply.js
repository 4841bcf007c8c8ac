/** One answer of the server, as it comes. */
import { answer } from './client.js';
import { messagesOf } from './conversations.js';

/** @typedef {import('./conversations.js').Conversation} Conversation */
/** @typedef {import('./conversations.js').Turn} Turn */

/**
 * What the page asks for besides the conversation.
 * @typedef {{ model: string, experts: string, temperature: number | undefined, maxTokens: number | undefined }} Choice
 */

/**
 * Fills a turn with the answer to a conversation; what has come until a stop or a failure stays.
 * @param {Conversation} conversation what has been said, without the turn
 * @param {Turn} turn
 * @param {Choice} choice
 * @param {AbortSignal} signal
 * @param {() => void} changed is told of every piece
 * @returns {Promise<'stop' | 'length'>} why it ended
 * @throws {import('./client.js').Refusal}
 */
export async function reply(conversation, turn, choice, signal, changed) {
  const speed = new Speed();
  /** @type {'stop' | 'length'} */
  let finish = 'stop';
  const note = (/** @type {string} */ more = '') => {
    turn.note = [choice.experts, speed.text, more].filter((text) => text !== '').join(' · ');
    changed();
  };
  try {
    for await (const { choices, usage } of answer(requestOf(conversation, choice), signal)) {
      const { delta, finish_reason: reason } = choices[0] ?? { delta: {}, finish_reason: null };
      turn.text += delta.content ?? '';
      turn.reasoning += delta.reasoning_content ?? '';
      if (delta.content || delta.reasoning_content) speed.piece();
      if (reason === 'length') finish = 'length';
      if (usage) speed.tokens = usage.completion_tokens;
      note();
    }
  } catch (error) {
    note(signal.aborted ? 'stopped' : 'failed');
    throw error;
  }
  note(finish === 'length' ? 'cut at the limit' : '');
  return finish;
}

/**
 * @param {Conversation} conversation
 * @param {Choice} choice
 */
function requestOf(conversation, { model, experts, temperature, maxTokens }) {
  return {
    model,
    messages: messagesOf(conversation),
    ...(experts !== '' && { experts }),
    ...(temperature !== undefined && { temperature }),
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
  };
}

/** Tokens a second, from the first piece on. */
class Speed {
  #pieces = 0;
  #first = 0;
  #last = 0;
  /** How many tokens there were, once it is known; a piece is about one. @type {number | undefined} */
  tokens;

  piece() {
    this.#last = performance.now();
    if (this.#pieces++ === 0) this.#first = this.#last;
  }

  get text() {
    const tokens = this.tokens ?? this.#pieces;
    const seconds = (this.#last - this.#first) / 1000;
    if (tokens === 0) return '';
    const rate = seconds > 0 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : '';
    return `${tokens} ${tokens === 1 ? 'token' : 'tokens'}${rate}`;
  }
}
