import { badField } from './api-error.ts';

/** Fields by name, and what to do instead of giving them. */
type ForeignFields = Readonly<Record<string, string>>;

/**
 * Refuses fields of other APIs, servers and times that would change the answer: whoever gives one is not to believe that it counts. Values that
 * ask for what is given anyway are let pass.
 * @throws ApiError that names the field, and what takes its place
 */
export function refuseForeign(body: Readonly<Record<string, unknown>>, fields: ForeignFields): void {
  for (const [name, instead] of Object.entries(fields))
    if (Object.hasOwn(body, name) && asksForMore(name, body[name]))
      throw badField(name, `is not taken here; ${instead}`);
}

function asksForMore(name: string, value: unknown): boolean {
  if (!value || (Array.isArray(value) && value.length === 0)) return false;
  if (name === 'n') return value !== 1;
  return !(name === 'response_format' && (value as { type?: unknown }).type === 'text');
}

const FORMATS = [
  ...['guided_json', 'guided_regex', 'guided_choice', 'guided_grammar', 'structured_outputs'],
  ...['json_schema', 'grammar'],
];

/** What no API here takes: older words for tools, and what other servers call the format of an answer. @param format what this API calls it */
export function ofOtherApis(format: string): ForeignFields {
  const formats = Object.fromEntries(FORMATS.map((name) => [name, `give ${format}`]));
  return { functions: 'give tools', function_call: 'give tool_choice', ...formats };
}
