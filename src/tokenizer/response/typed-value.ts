/** What a parameter may be, by its JSON schema, in the order in which the schema says it. */
export type ValueTypes = readonly string[];

/** Schemas within schemas that are looked through. */
const MOST_NESTED = 16;

/** Source: transformers `utils/chat_parsing/response_parser.py`, `_schema_types`, which does not follow references. */
export function typesOf(schema: unknown, document: unknown = schema, depth = 0): ValueTypes {
  if (typeof schema !== 'object' || schema === null || depth > MOST_NESTED) return [];
  const {
    type,
    anyOf,
    oneOf,
    allOf,
    nullable,
    $ref,
    enum: values,
    const: constant,
  } = schema as Record<string, unknown>;
  const own =
    typeof type === 'string'
      ? [type]
      : Array.isArray(type)
        ? type.filter((one) => typeof one === 'string')
        : [];
  const cases = [anyOf, oneOf, allOf].flatMap((list) => (Array.isArray(list) ? list : []));
  const constants = constant === undefined ? (Array.isArray(values) ? values : []) : [constant];
  const target = typeof $ref === 'string' ? at(document, $ref) : undefined;
  return [
    ...own,
    ...(own.length === 0 ? constants.map(typeName) : []),
    ...[...cases, target].flatMap((one) => typesOf(one, document, depth + 1)),
    ...(nullable === true ? ['null'] : []),
  ];
}

function typeName(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function at(document: unknown, pointer: string): unknown {
  return pointer
    .split('/')
    .slice(1)
    .reduce<unknown>((value, key) => {
      const name = key.replaceAll('~1', '/').replaceAll('~0', '~');
      return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
        ? (value as Record<string, unknown>)[name]
        : undefined;
    }, document);
}

/**
 * A value that a model wrote as bare text, as JSON of the first type that it fits; of none, as the text it is.
 *
 * Numbers keep their digits, as many as they are, and text that only looks like a number stays text where texts are allowed first.
 */
export function valueAsJson(text: string, types: ValueTypes): string {
  // A text may always be meant where null is allowed beside it, but not by this word.
  if (types.includes('null') && /^\s*(?:null|None)\s*$/.test(text)) return 'null';
  for (const type of types) {
    if (type === 'string') break;
    const json = asType(text.trim(), type);
    if (json !== undefined) return json;
  }
  return JSON.stringify(text);
}

const WHOLE = /^-?(?:0|[1-9]\d*)$/;
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

function asType(text: string, type: string): string | undefined {
  switch (type) {
    case 'integer':
      if (WHOLE.test(text)) return text;
      return /^-?(?:0|[1-9]\d*)\.0+$/.test(text) ? text.slice(0, text.indexOf('.')) : undefined;
    case 'number':
      return NUMBER.test(text) ? text : undefined;
    case 'boolean':
      return /^(?:true|1)$/i.test(text) ? 'true' : /^(?:false|0)$/i.test(text) ? 'false' : undefined;
    case 'object':
    case 'array':
      return isJsonOf(text, type) ? text : undefined;
    default:
      return undefined;
  }
}

function isJsonOf(text: string, type: 'object' | 'array'): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && Array.isArray(value) === (type === 'array');
  } catch {
    return false;
  }
}
