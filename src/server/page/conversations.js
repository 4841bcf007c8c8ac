/** Conversations, kept in this browser. */

/**
 * @typedef {object} Turn
 * @property {'user' | 'assistant'} role
 * @property {string} text
 * @property {string[]} pictures data URLs
 * @property {string} reasoning
 * @property {string} note what is said of an answer: experts, tokens, speed
 */
/** @typedef {{ id: string, changed: number, system: string, turns: Turn[] }} Conversation */

/** @returns {Conversation} */
export function newConversation() {
  return { id: crypto.randomUUID(), changed: Date.now(), system: '', turns: [] };
}

/** @param {Conversation} conversation */
export function titleOf({ turns }) {
  return turns[0]?.text.slice(0, 60) || 'New conversation';
}

/**
 * Messages as chat completions take them.
 * @param {Conversation} conversation
 */
export function messagesOf({ system, turns }) {
  const said = turns.map(({ role, text, pictures, reasoning }) => ({
    role,
    content:
      pictures.length === 0
        ? text
        : [...pictures.map((url) => ({ type: 'image_url', image_url: { url } })), { type: 'text', text }],
    ...(reasoning !== '' && { reasoning_content: reasoning }),
  }));
  return system === '' ? said : [{ role: 'system', content: system }, ...said];
}

/**
 * Runs a request against the database of this origin.
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} work
 * @returns {Promise<T>}
 */
async function inStore(mode, work) {
  const database = await new Promise((resolve, reject) => {
    const opening = indexedDB.open('switchyard', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('conversations', { keyPath: 'id' });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction('conversations', mode);
      const request = work(transaction.objectStore('conversations'));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

/** All that were kept, the newest first. @returns {Promise<Conversation[]>} */
export async function keptConversations() {
  const all = /** @type {Conversation[]} */ (await inStore('readonly', (store) => store.getAll()));
  return all.sort((a, b) => b.changed - a.changed);
}

/** @param {Conversation} conversation */
export async function keep(conversation) {
  conversation.changed = Date.now();
  await inStore('readwrite', (store) => store.put(conversation));
}

/** @param {string} id */
export async function forget(id) {
  await inStore('readwrite', (store) => store.delete(id));
}
