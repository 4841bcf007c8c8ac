/**
 * Whether a callback that must answer at once has answered with a promise. It will be refused, and nobody will wait for it: were it to
 * reject, Node would end the process.
 */
export function disownPromise(answer: unknown): boolean {
  if (typeof (answer as PromiseLike<unknown> | undefined)?.then !== 'function') return false;
  Promise.resolve(answer).catch(() => {});
  return true;
}
