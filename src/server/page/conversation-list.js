/** The conversations of this browser, to choose from. */
import { forget, keptConversations, titleOf } from './conversations.js';

/** @typedef {import('./conversations.js').Conversation} Conversation */

/**
 * @param {string} text
 * @param {() => void} act
 */
function button(text, act) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = text;
  made.addEventListener('click', act);
  return made;
}

/**
 * Draws the list.
 * @param {HTMLElement} list
 * @param {string} current id of the one that is open
 * @param {(conversation: Conversation) => void} open
 * @param {() => void} forgotten the open one was deleted
 */
export async function drawConversations(list, current, open, forgotten) {
  const conversations = await keptConversations();
  list.replaceChildren(
    ...conversations.map((conversation) => {
      const title = titleOf(conversation);
      const chooser = button(title, () => open(conversation));
      chooser.setAttribute('aria-current', String(conversation.id === current));
      const remover = button('×', async () => {
        await forget(conversation.id);
        if (conversation.id === current) forgotten();
        else await drawConversations(list, current, open, forgotten);
      });
      remover.setAttribute('aria-label', `Delete “${title}”`);
      const item = document.createElement('li');
      item.append(chooser, remover);
      return item;
    }),
  );
}
