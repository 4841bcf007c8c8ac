/** Which experts each layer has used since the last question, as a heat map and a table. */

/** Experts that the table names, a layer. */
const NAMED = 4;

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class RoutingView {
  #canvas = /** @type {HTMLCanvasElement} */ (at('heat'));
  /** @type {number[]} */
  #layers = [];
  /** Tokens by layer and expert. @type {number[][]} */
  #load = [];
  /** Those of the last moment. @type {number[][]} */
  #latest = [];
  #tokens = 0;

  constructor() {
    this.#canvas.addEventListener('pointermove', (event) => this.#point(event));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
    this.#say();
  }

  /** Begins to count anew. */
  clear() {
    this.#load = this.#load.map((row) => row.map(() => 0));
    this.#latest = [];
    this.#tokens = 0;
    this.#draw();
  }

  /** @param {NonNullable<import('./client.js').Activity['routing']>} routing */
  add({ layers, tokens, load }) {
    const isOther = layers.join() !== this.#layers.join() || load[0]?.length !== this.#load[0]?.length;
    this.#layers = layers;
    this.#load = isOther ? load : this.#load.map((row, i) => row.map((n, j) => n + (load[i]?.[j] ?? 0)));
    this.#tokens = isOther ? tokens : this.#tokens + tokens;
    if (tokens > 0) this.#latest = load;
    if (tokens > 0 || isOther) this.#draw();
  }

  #draw() {
    const [rows, columns] = [this.#load.length, this.#load[0]?.length ?? 0];
    const paint = this.#canvas.getContext('2d');
    if (!paint || columns === 0) return;
    this.#canvas.width = columns;
    this.#canvas.height = rows;
    this.#canvas.style.aspectRatio = `${columns} / ${Math.max(rows, columns / 2)}`;
    // The style sheet says by these two what colours are in force.
    const { color: ink, outlineColor: mark } = getComputedStyle(this.#canvas);
    for (const [row, loads] of this.#load.entries()) {
      const most = Math.max(1, ...loads);
      for (const [column, tokens] of loads.entries()) {
        const isLatest = (this.#latest[row]?.[column] ?? 0) > 0;
        paint.globalAlpha = tokens === 0 ? 0 : 0.15 + (0.85 * tokens) / most;
        paint.fillStyle = isLatest ? mark : ink;
        paint.fillRect(column, row, 1, 1);
      }
    }
    this.#say();
  }

  #say() {
    at('routing-summary').textContent =
      this.#load.length === 0
        ? 'This model routes no tokens, or has not done so yet.'
        : `${this.#tokens} tokens since your last question, by layer (rows) and expert (columns); coloured are those of the last moment.`;
    at('busiest').replaceChildren(...this.#load.map((loads, i) => this.#row(loads, i)));
  }

  /**
   * @param {number[]} loads
   * @param {number} place
   */
  #row(loads, place) {
    const used = loads.map((tokens, expert) => ({ tokens, expert })).filter(({ tokens }) => tokens > 0);
    const total = used.reduce((sum, { tokens }) => sum + tokens, 0);
    const busiest = used.toSorted((a, b) => b.tokens - a.tokens).slice(0, NAMED);
    const texts = [
      busiest.map(({ expert, tokens }) => `${expert} (${Math.round((100 * tokens) / total)}%)`).join(', '),
      `${used.length} of ${loads.length}`,
    ];
    const row = document.createElement('tr');
    const head = document.createElement('th');
    head.scope = 'row';
    head.textContent = String(this.#layers[place]);
    row.append(
      head,
      ...texts.map((text) => Object.assign(document.createElement('td'), { textContent: text })),
    );
    return row;
  }

  /** @param {PointerEvent} event */
  #point({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const [rows, columns] = [this.#load.length, this.#load[0]?.length ?? 0];
    const row = Math.min(rows - 1, Math.floor(((clientY - top) / height) * rows));
    const column = Math.min(columns - 1, Math.floor(((clientX - left) / width) * columns));
    const tokens = this.#load[row]?.[column];
    if (tokens !== undefined)
      at('cell').textContent = `Layer ${this.#layers[row]}, expert ${column}: ${tokens} tokens`;
  }
}
