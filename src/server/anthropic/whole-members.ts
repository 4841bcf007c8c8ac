/** A string, a mark, white space, or a number or word. */
const PIECE = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|\s+|[^\s{}[\]:,"]+/gsy;

/**
 * The object that a JSON text has written where it breaks off: members whose values are whole, and of lists and objects that are open what
 * is whole in them. Empty for what is no object.
 */
export function wholeMembers(text: string): object {
  /** What closes the lists and objects that are open, the innermost first. */
  const closers: string[] = [];
  let whole = '';
  let before = '';
  for (const { 0: piece, index } of text.matchAll(PIECE)) {
    const end = index + piece.length;
    if (piece === '{' || piece === '[') closers.unshift(piece === '{' ? '}' : ']');
    if (piece === '}' || piece === ']') closers.shift();
    const isKey = piece.startsWith('"') && closers[0] === '}' && before !== ':';
    // At the end a number may still grow.
    const isOpen = end === text.length && !/["{}[\]]$/.test(piece);
    if (!isKey && !isOpen && !/^[\s:,]/.test(piece)) whole = text.slice(0, end) + closers.join('');
    if (piece.trim() !== '') before = piece;
  }
  try {
    const value: unknown = JSON.parse(whole);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}
