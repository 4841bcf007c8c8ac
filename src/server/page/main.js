/** The page: a conversation with a model of this server. */
import { models, Refusal, rememberKey } from './client.js';
import { drawConversations } from './conversation-list.js';
import { keep, keptConversations, newConversation } from './conversations.js';
import { picturesIn, pictureUrl } from './pictures.js';
import { reply } from './reply.js';
import { TurnView } from './turn-view.js';
import { watch } from './watch.js';

/** @typedef {import('./conversations.js').Turn} Turn */
/** @typedef {import('./client.js').Model} Model */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function at(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const modelSelect = at('model', HTMLSelectElement);
const expertsSelect = at('experts', HTMLSelectElement);
const turnList = at('turns', HTMLOListElement);
const status = at('status', HTMLParagraphElement);
const question = at('question', HTMLTextAreaElement);
const system = at('system', HTMLTextAreaElement);
const pictureList = at('pictures', HTMLUListElement);
const pictureInput = at('picture', HTMLInputElement);
const addPicture = at('add-picture', HTMLButtonElement);
const send = at('send', HTMLButtonElement);
const stop = at('stop', HTMLButtonElement);
const again = document.createElement('button');

let conversation = newConversation();
/** Data URLs of the message that is being written. @type {string[]} */
let pictures = [];
/** Ends the answer that is coming. @type {AbortController | undefined} */
let answering;
/** @type {Model[]} */
let served = [];
const watching = watch(() => modelSelect.value);

/**
 * @param {string} text
 * @param {boolean} [failed]
 */
function say(text, failed = false) {
  status.textContent = text;
  status.classList.toggle('failed', failed);
}

/** @param {unknown} error */
function complain(error) {
  say(error instanceof Error ? error.message : String(error), true);
}

/** Loads the models, once the server knows who asks, and the last conversation. Nothing is asked before both are here. */
async function begin() {
  /** @type {Model[]} */
  let found;
  try {
    found = await models();
  } catch (error) {
    if (!(error instanceof Refusal) || error.status !== 401) throw error;
    say(error.message, true);
    rememberKey(await askKey());
    return begin();
  }
  const [last] = await keptConversations();
  served = found;
  say('');
  modelSelect.replaceChildren(...served.map(({ id }) => new Option(id, id)));
  chooseModel();
  open(last ?? newConversation());
}

/** @returns {Promise<string>} */
async function askKey() {
  const dialog = at('ask-key', HTMLDialogElement);
  const key = at('key', HTMLInputElement);
  key.value = '';
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
  return key.value === '' ? askKey() : key.value;
}

function chooseModel() {
  const model = served.find(({ id }) => id === modelSelect.value);
  const { implementation = '', available = [] } = model?.experts ?? {};
  expertsSelect.replaceChildren(
    ...available.map((name) => new Option(name, name, name === implementation, name === implementation)),
  );
  expertsSelect.disabled = available.length === 0;
  addPicture.disabled = model?.vision === false;
  watching.restart();
}

/** What a model can do is known once an answer has had it loaded. */
async function lookAgain() {
  if (served.find(({ id }) => id === modelSelect.value)?.loaded) return;
  served = await models();
  chooseModel();
}

/** @param {import('./conversations.js').Conversation} chosen */
function open(chosen) {
  answering?.abort();
  conversation = chosen;
  system.value = chosen.system;
  turnList.replaceChildren(...chosen.turns.map((turn) => new TurnView(turn).element));
  offerAgain();
  turnList.scrollTop = turnList.scrollHeight;
  drawList();
  question.focus();
}

function drawList() {
  const list = at('conversations', HTMLUListElement);
  drawConversations(list, conversation.id, open, () => open(newConversation())).catch(complain);
}

/** The last answer may be asked for again, by other experts perhaps, or because there is none. */
function offerAgain() {
  again.remove();
  if (!answering) turnList.lastElementChild?.append(again);
}

/** @param {Turn} turn */
function addTurn(turn) {
  const view = new TurnView(turn);
  turnList.append(view.element);
  view.element.scrollIntoView({ block: 'end' });
  return view;
}

async function ask() {
  const text = question.value.trim();
  if (answering || (text === '' && pictures.length === 0)) return;
  if (served.length === 0) return say('The page is still loading.', true);
  /** @type {Turn} */
  const turn = { role: 'user', text, pictures, reasoning: '', note: '' };
  conversation.turns.push(turn);
  addTurn(turn);
  question.value = '';
  pictures = [];
  drawPictures();
  await answer();
}

async function answer() {
  const asked = conversation;
  asked.system = system.value.trim();
  /** @type {Turn} */
  const turn = { role: 'assistant', text: '', pictures: [], reasoning: '', note: '' };
  const before = { ...asked, turns: [...asked.turns] };
  asked.turns.push(turn);
  const view = addTurn(turn);
  view.element.setAttribute('aria-busy', 'true');
  answering = new AbortController();
  const { signal } = answering;
  showAnswering();
  offerAgain();
  watching.clear();
  say('The answer is coming.');
  let outcome = 'The answer was stopped.';
  /** @type {unknown} */
  let failure;
  try {
    const end = await reply(before, turn, choice(), signal, () => {
      const isAtEnd = turnList.scrollHeight - turnList.scrollTop - turnList.clientHeight < 80;
      view.update();
      if (isAtEnd) turnList.scrollTop = turnList.scrollHeight;
    });
    outcome = end === 'length' ? 'The answer was cut at the limit.' : 'The answer is complete.';
  } catch (error) {
    if (!signal.aborted) failure = error;
  }
  view.draw();
  view.element.removeAttribute('aria-busy');
  // What has failed before its first word is no turn.
  if (turn.text === '' && turn.reasoning === '') {
    asked.turns.splice(asked.turns.indexOf(turn), 1);
    view.element.remove();
  }
  answering = undefined;
  showAnswering();
  offerAgain();
  await lookAgain();
  await keep(asked);
  drawList();
  if (failure === undefined) say(outcome);
  else complain(failure);
  turnList.scrollTop = turnList.scrollHeight;
}

/** @returns {import('./reply.js').Choice} */
function choice() {
  const number = (/** @type {string} */ id) => {
    const { valueAsNumber } = at(id, HTMLInputElement);
    return Number.isNaN(valueAsNumber) ? undefined : valueAsNumber;
  };
  return {
    model: modelSelect.value,
    experts: expertsSelect.value,
    temperature: number('temperature'),
    maxTokens: number('max-tokens'),
  };
}

function showAnswering() {
  const isAnswering = answering !== undefined;
  // The focus stays on what the keyboard has pressed.
  const hadFocus = [send, stop].some((one) => one === document.activeElement);
  stop.hidden = !isAnswering;
  send.disabled = isAnswering;
  if (hadFocus) (isAnswering ? stop : question).focus();
}

function drawPictures() {
  pictureList.replaceChildren(
    ...pictures.map((url, i) => {
      const item = document.createElement('li');
      const picture = document.createElement('img');
      picture.src = url;
      picture.alt = `Picture ${i + 1}`;
      const remover = document.createElement('button');
      remover.type = 'button';
      remover.textContent = `Remove picture ${i + 1}`;
      remover.addEventListener('click', () => {
        pictures = pictures.filter((_, j) => j !== i);
        drawPictures();
        question.focus();
      });
      item.append(picture, remover);
      return item;
    }),
  );
}

/** @param {readonly Blob[]} files */
async function take(files) {
  if (addPicture.disabled && files.length > 0) return say('This model sees no pictures.', true);
  try {
    pictures = [...pictures, ...(await Promise.all(files.map(pictureUrl)))];
    drawPictures();
  } catch {
    say('This is no picture that the browser can read.', true);
  }
}

again.type = 'button';
again.id = 'again';
again.textContent = 'Answer again';
again.addEventListener('click', () => {
  again.remove();
  if (conversation.turns.at(-1)?.role === 'assistant') {
    conversation.turns.pop();
    turnList.lastElementChild?.remove();
  }
  answer().catch(complain);
});
modelSelect.addEventListener('change', chooseModel);
at('new', HTMLButtonElement).addEventListener('click', () => open(newConversation()));
at('composer', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  ask().catch(complain);
});
question.addEventListener('keydown', (event) => {
  // An Enter that ends the composition of a character sends nothing.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask().catch(complain);
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') answering?.abort();
});
stop.addEventListener('click', () => answering?.abort());
addPicture.addEventListener('click', () => pictureInput.click());
pictureInput.addEventListener('change', () => {
  take([...(pictureInput.files ?? [])]).finally(() => {
    pictureInput.value = '';
  });
});
question.addEventListener('paste', (event) => take(picturesIn(event.clipboardData)));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  take(picturesIn(event.dataTransfer));
});
begin().catch(complain);
