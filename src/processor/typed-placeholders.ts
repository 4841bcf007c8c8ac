import { InputError } from '../errors.ts';

const PLACEHOLDER = /<\|(image|video|audio)_pad\|>/;
const NAMES: Readonly<Record<string, string>> = {
  image: 'a picture',
  video: 'a video',
  audio: 'a sound',
};

/**
 * Refuses words that hold the placeholder of a picture, video or sound: a tokenizer would take it for one that the chat template has put
 * there, and pictures would come to stand in each other's places (in transformers the first placeholder takes the first picture).
 *
 * @param given texts, and what is made of texts, by the name that messages call it
 * @throws InputError naming the text
 */
export function refuseTyped(given: Readonly<Record<string, unknown>>): void {
  const seen = new Set<object>();
  // A list instead of calls: arguments of tools may be nested as deep as they like.
  const open: [where: string, value: unknown][] = [];
  const later = (entries: [string, unknown][]) => {
    for (const entry of entries.reverse()) open.push(entry);
  };
  later(Object.entries(given));
  for (let next = open.pop(); next; next = open.pop()) {
    const [where, value] = next;
    if (typeof value === 'string') refuse(value, where);
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || seen.has(value)) continue;
    seen.add(value);
    if (Array.isArray(value)) later(value.map((item, i) => [`${where}[${i}]`, item]));
    else {
      for (const name of Object.keys(value)) refuse(name, `a name in ${where}`);
      later(Object.entries(value).map(([name, item]) => [`${where}.${name}`, item]));
    }
  }
}

/** The first placeholder among words, and what it is the place of; undefined where there is none. */
export function typedPlaceholder(
  text: string,
): { readonly token: string; readonly kind: string } | undefined {
  const [token, kind] = PLACEHOLDER.exec(text) ?? [];
  return token === undefined || kind === undefined ? undefined : { token, kind };
}

function refuse(text: string, where: string): void {
  const { token: placeholder, kind = '' } = typedPlaceholder(text) ?? {};
  if (placeholder === undefined) return;
  throw new InputError(
    `${where} holds ${placeholder}, which the model reads as the place of ${NAMES[kind]}, not as words. Give ${NAMES[kind]} as a part of a ` +
      `message, { type: '${kind}', ${kind} }; what is meant as words, spell otherwise, such as ${placeholder.replace('<|', '<| ')}`,
  );
}
