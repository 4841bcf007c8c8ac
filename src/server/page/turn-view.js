/** How a turn of a conversation looks. */

/** @typedef {import('./conversations.js').Turn} Turn */

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 */
function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A turn on the page, which may grow. */
export class TurnView {
  /** @type {Turn} */
  #turn;
  #text = element('div', 'text');
  #reasoning = document.createElement('details');
  #thought = element('div', 'thought');
  #note = element('p', 'note');
  #isStale = false;

  /** @param {Turn} turn */
  constructor(turn) {
    this.#turn = turn;
    this.element = element('li', turn.role);
    this.#reasoning.className = 'reasoning';
    this.#reasoning.append(element('summary', '', 'Reasoning'), this.#thought);
    this.element.append(
      element('h3', '', turn.role === 'user' ? 'You' : 'Answer'),
      ...turn.pictures.map((url, i) => {
        const picture = document.createElement('img');
        picture.src = url;
        picture.alt = `Picture ${i + 1} of this message`;
        return picture;
      }),
      this.#reasoning,
      this.#text,
      this.#note,
    );
    this.draw();
  }

  /** Shows what the turn has become, at most once a frame. */
  update() {
    if (this.#isStale) return;
    this.#isStale = true;
    requestAnimationFrame(() => {
      this.#isStale = false;
      this.draw();
    });
  }

  /** Shows it at once. */
  draw() {
    const { text, reasoning, note } = this.#turn;
    this.#text.replaceChildren(...formatted(text));
    this.#thought.textContent = reasoning;
    this.#reasoning.hidden = reasoning === '';
    this.#note.textContent = note;
  }
}

/**
 * Text, with code between fences set apart; the last fence may still be open.
 * @param {string} text
 */
function formatted(text) {
  return text.split(/^```.*\n?/m).map((part, i) => {
    if (i % 2 === 0) return document.createTextNode(part);
    const block = document.createElement('pre');
    block.append(element('code', '', part));
    block.tabIndex = 0;
    return block;
  });
}
