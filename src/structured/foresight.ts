import type { Automaton, State } from './automaton.ts';
import type { TokenBytes } from './token-table.ts';

/** Bytes that are foreseen at a time. */
const MOST_BYTES = 256;

const [SPACE, COMMA, COLON] = [0x20, 0x2c, 0x3a];
const isSpace = (byte: number) => byte === 0x20 || byte === 0x09 || byte === 0x0a;
/** Letters, digits and parts of other characters. */
const isOfWord = (byte: number) => byte >= 0x80 || /[0-9A-Za-z]/.test(String.fromCharCode(byte));

/**
 * The tokens of what comes next where a grammar leaves one way on, such as the name of a property. Where it leaves open only how much white
 * space stands there, the text is taken to go on as it did before. They are guesses for a model to confirm: it may cut the same text into
 * other tokens.
 *
 * @param text bytes of the text so far, or of its end
 */
export function foreseen(
  automaton: Automaton,
  tokens: TokenBytes,
  state: State,
  text: readonly number[],
): readonly number[] {
  const { bytes, end } = onlyWay(automaton, state, text);
  // Bytes that are no whole character are not written as text.
  const [whole = ''] = Buffer.from(bytes).toString('utf8').split('\ufffd');
  // A word that may go on is cut into tokens together with what follows.
  const isOpen = automaton.following(end).some(isOfWord);
  const settled = isOpen ? whole.replace(/[\p{L}\p{N}]+$/u, '') : whole;
  return settled === '' ? [] : allowedStart(automaton, tokens, state, tokens.idsOf(settled));
}

/** As far as there is one way on, and the text may not end. */
function onlyWay(automaton: Automaton, start: State, text: readonly number[]) {
  const written = [...text];
  let end = start;
  const take = (byte: number) => {
    const next = automaton.next(end, byte);
    if (next) written.push(byte);
    end = next ?? end;
    return next !== undefined;
  };
  while (written.length - text.length < MOST_BYTES && !end.accepts) {
    const following = automaton.following(end);
    const solid = following.filter((byte) => !isSpace(byte));
    if (following.length > 1 && solid.length !== 1) break;
    const space = following.length > 1 ? usualSpace(written) : [];
    if (![...space, solid[0] ?? (following[0] as number)].every(take)) break;
  }
  return { bytes: written.slice(text.length), end };
}

/** The white space that stood before after what the text ends in; after the first comma, that after a colon. */
function usualSpace(text: readonly number[]): readonly number[] {
  const last = text.at(-1);
  if (last === undefined || isSpace(last)) return [];
  const like = text.indexOf(last) === text.length - 1 && last === COMMA ? COLON : last;
  const before = text.lastIndexOf(like, -2);
  if (before === -1) return like === COLON ? [SPACE] : [];
  const after = text.slice(before + 1);
  return after.slice(
    0,
    after.findIndex((byte) => !isSpace(byte)),
  );
}

/** As many of the first tokens as the grammar allows one after the other. */
function allowedStart(
  automaton: Automaton,
  tokens: TokenBytes,
  start: State,
  ids: readonly number[],
): readonly number[] {
  let state: State | undefined = start;
  const wrong = ids.findIndex((id) => {
    const bytes = tokens.bytesOf(id);
    state = bytes && state && automaton.read(state, bytes);
    return state === undefined;
  });
  return wrong === -1 ? ids : ids.slice(0, wrong);
}
