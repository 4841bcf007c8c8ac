import * as z from 'zod';
import { didYouMean, plainIssue, show } from '../../errors.ts';
import { below, type Path, refuse } from './errors.ts';

/** A schema that is an object; its keywords have been checked. */
export type Schema = Readonly<Record<string, unknown>> & {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: unknown;
  readonly propertyNames?: unknown;
  readonly items?: unknown;
  readonly prefixItems?: readonly unknown[];
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string | readonly string[];
  readonly format?: string | readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly anyOf?: readonly unknown[];
  readonly oneOf?: readonly unknown[];
  readonly allOf?: readonly unknown[];
  readonly $ref?: string;
};

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
export type TypeName = (typeof TYPES)[number];

const count = z.int().min(0).max(65_536);
const schemas = z.array(z.unknown()).min(1);
const type = z.enum(TYPES);

/** Keywords that are enforced, and what their values must be. */
const ENFORCED: Readonly<Record<string, z.ZodType>> = {
  type: z.union([type, z.array(type).min(1)]),
  enum: z.array(z.json()).min(1).max(10_000),
  const: z.json(),
  properties: z.record(z.string(), z.unknown()),
  required: z.array(z.string()),
  additionalProperties: z.unknown(),
  propertyNames: z.unknown(),
  items: z.unknown(),
  prefixItems: schemas,
  minItems: count,
  maxItems: count,
  minLength: count,
  maxLength: count,
  pattern: z.string(),
  format: z.string(),
  minimum: z.number(),
  maximum: z.number(),
  exclusiveMinimum: z.number(),
  exclusiveMaximum: z.number(),
  anyOf: schemas,
  oneOf: schemas,
  allOf: schemas,
  $ref: z.string(),
  nullable: z.boolean(),
};

/** Keywords that say nothing about what is valid here. */
const ANNOTATIONS = [
  ...['title', 'description', 'default', 'example', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'contentEncoding', 'contentMediaType', 'strict'],
];

/** What no automaton of sensible size can follow, and what helps. */
const BEYOND: ReadonlyMap<string, string> = new Map([
  ['not', 'say what is allowed instead'],
  ['if', 'use anyOf with the cases'],
  ['then', 'use anyOf with the cases'],
  ['else', 'use anyOf with the cases'],
  ['multipleOf', 'check it afterwards'],
  ['uniqueItems', 'check it afterwards'],
  ['contains', 'describe all items'],
  ['minContains', 'describe all items'],
  ['maxContains', 'describe all items'],
  ['minProperties', 'list the properties as required'],
  ['maxProperties', 'list the properties and set additionalProperties: false'],
  ['patternProperties', 'use propertyNames with additionalProperties, or list the properties'],
  ['additionalItems', 'list the first items as prefixItems, and put in items what follows them'],
  ['dependentRequired', 'use anyOf with the cases'],
  ['dependentSchemas', 'use anyOf with the cases'],
  ['dependencies', 'use anyOf with the cases'],
  ['$dynamicRef', 'use $ref'],
  ['$dynamicAnchor', 'use $defs'],
  ['$anchor', 'use $defs'],
  ['$recursiveRef', 'use $ref'],
  ['contentSchema', 'use the type of the content itself'],
]);

const KNOWN = [...Object.keys(ENFORCED), ...ANNOTATIONS, ...BEYOND.keys()];

/**
 * Checks the keywords of one schema, but not of those inside it.
 *
 * @returns the schema with what says nothing left out
 * @throws InputError by path for a keyword that is unknown, malformed or cannot be enforced
 */
export function checkKeywords(value: unknown, path: Path): Schema {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    refuse(
      path,
      `is ${show(value)}; expected a schema, which is an object or true or false` +
        (Array.isArray(value) && path.endsWith('/items')
          ? '. A list of them, one for each item, is called prefixItems'
          : ''),
    );
  const kept: Record<string, unknown> = {};
  for (const [key, given] of Object.entries(value)) {
    if (
      given === undefined ||
      ANNOTATIONS.includes(key) ||
      key.startsWith('x-') ||
      hasNoEffect(key, given, value)
    )
      continue;
    const hint = BEYOND.get(key);
    if (hint !== undefined) refuse(below(path, key), `is a keyword that generation cannot follow; ${hint}`);
    const wanted = Object.hasOwn(ENFORCED, key) ? ENFORCED[key] : undefined;
    if (!wanted)
      refuse(
        below(path, key),
        `is no keyword${didYouMean(key, KNOWN) || '; begin its name with x- if it is a note'}`,
      );
    const result = wanted.safeParse(given);
    if (!result.success) {
      const { path: inside, message } = plainIssue(result.error.issues[0] as z.core.$ZodIssue);
      const at = below(path, key, ...inside.map(String));
      if (key === 'type') refuse(at, `is ${show(given)}; expected one or several of ${TYPES.join(', ')}`);
      const value = inside.length === 0 ? ` (${show(given)})` : '';
      refuse(at, `is malformed${value}: ${message}`);
    }
    kept[key] = given;
  }
  return kept;
}

/** Values that ask for nothing beyond what is done anyway. */
function hasNoEffect(key: string, value: unknown, schema: object): boolean {
  // Older drafts know it beside a list of items only, and ours has another name for that.
  if (key === 'additionalItems')
    return !('prefixItems' in schema || ('items' in schema && Array.isArray(schema.items)));
  if (key === 'uniqueItems' || key === 'nullable') return value === false;
  // Only what a schema names is generated, unless it says otherwise.
  if (key === 'unevaluatedProperties' || key === 'unevaluatedItems') return value === false;
  if (key === 'minProperties' || key === 'minContains') return value === 0;
  return key === 'multipleOf' && value === 1 && 'type' in schema && schema.type === 'integer';
}
