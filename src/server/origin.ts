/** What an origin looks like, for who gave something else. */
export const ORIGIN_EXAMPLES = 'an origin such as https://app.example or http://localhost:3000, or *';

/**
 * An origin as browsers send it, in lower case and without a slash or a usual port; `*` stays.
 * @returns undefined for what is no origin, and could never match one: a bare name, a path, a pattern
 */
export function originOf(text: string): string | undefined {
  if (text === '*') return text;
  const isWhole = /^[a-z][a-z\d+.-]*:\/\/[^\s/?#@*\\]+\/?$/i.test(text);
  if (!isWhole || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  // Pages of apps and extensions have schemes of their own, whose origin the standard leaves open.
  return url.origin === 'null' ? text.replace(/\/$/, '').toLowerCase() : url.origin;
}
