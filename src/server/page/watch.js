/** What the server is doing: its queue, and where its model sends tokens. */
import { activity } from './client.js';
import { RoutingView } from './routing-view.js';

const SHOWN = 'switchyard-routing';
/** Before the server is asked again after a failure, in milliseconds. */
const PAUSE = 3000;

/**
 * Watches for as long as the page is seen.
 * @param {() => string} model which one; '' while none is known
 */
export function watch(model) {
  const view = new RoutingView();
  const panel = /** @type {HTMLElement} */ (document.getElementById('routing'));
  const button = /** @type {HTMLElement} */ (document.getElementById('show-routing'));
  const queue = /** @type {HTMLElement} */ (document.getElementById('queue'));
  let watching = new AbortController();

  const run = async (/** @type {AbortSignal} */ signal) => {
    while (!signal.aborted && model() !== '') {
      try {
        for await (const { running, waiting, routing } of activity(model(), !panel.hidden, signal)) {
          queue.textContent = `${running} running, ${waiting} waiting`;
          if (routing) view.add(routing);
        }
      } catch {
        if (!signal.aborted) queue.textContent = 'The server does not answer';
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  };
  const restart = () => {
    watching.abort();
    watching = new AbortController();
    if (document.visibilityState === 'visible') run(watching.signal);
  };
  const show = (/** @type {boolean} */ isShown) => {
    panel.hidden = !isShown;
    button.setAttribute('aria-expanded', String(isShown));
    localStorage.setItem(SHOWN, String(isShown));
    restart();
  };
  button.addEventListener('click', () => show(button.getAttribute('aria-expanded') !== 'true'));
  document.addEventListener('visibilitychange', restart);
  const isWide = matchMedia('(min-width: 75rem)').matches;
  show((localStorage.getItem(SHOWN) ?? String(isWide)) === 'true');
  return { restart, clear: () => view.clear() };
}
