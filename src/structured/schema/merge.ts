import { type Path, refuse } from './errors.ts';
import type { Schema } from './keywords.ts';

/** Alternatives of two schemas are joined each with each, up to so many. */
const MOST_ALTERNATIVES = 64;

type Join = (a: never, b: never, path: Path) => unknown;

const higher: Join = (a: number, b: number) => Math.max(a, b);
const lower: Join = (a: number, b: number) => Math.min(a, b);
const both: Join = (a: unknown, b: unknown) => ({ allOf: [a, b] });
const listed: Join = (a: string | string[], b: string | string[]) => [...new Set([a, b].flat())];

/** How two values of a keyword become one that says both. */
const JOINS: Readonly<Record<string, Join>> = {
  type: (a: string | string[], b: string | string[]) => commonTypes([a].flat(), [b].flat()),
  enum: (a: unknown[], b: unknown[]) => a.filter((one) => b.some((other) => isSame(one, other))),
  const: (a: unknown, b: unknown, path) =>
    isSame(a, b) ? a : refuse(path, 'asks for two different constants'),
  required: listed,
  pattern: listed,
  format: listed,
  additionalProperties: both,
  propertyNames: both,
  items: both,
  prefixItems: (_a, _b, path) => refuse(path, 'joins two prefixItems; write them as one'),
  minItems: higher,
  maxItems: lower,
  minLength: higher,
  maxLength: lower,
  minimum: higher,
  exclusiveMinimum: higher,
  maximum: lower,
  exclusiveMaximum: lower,
  anyOf: (a: unknown[], b: unknown[], path) => {
    if (a.length * b.length > MOST_ALTERNATIVES)
      refuse(path, `joins alternatives to more than ${MOST_ALTERNATIVES}; write them out`);
    return a.flatMap((one) => b.map((other) => ({ allOf: [one, other] })));
  },
  oneOf: (_a, _b, path) => refuse(path, 'joins two oneOf; use anyOf'),
  nullable: (a: boolean, b: boolean) => a && b,
};

/** The schema that says what two say, neither with `$ref` or `allOf`. */
export function merge(a: Schema, b: Schema, path: Path): Schema {
  if ((a.prefixItems && b.items !== undefined) || (b.prefixItems && a.items !== undefined))
    refuse(path, 'joins prefixItems of one schema with items of another; write them as one');
  const merged: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) {
    if (key === 'properties') continue;
    const join = JOINS[key] as Join;
    merged[key] = key in a ? join(a[key] as never, value as never, path) : value;
  }
  const properties = mergeProperties(a, b);
  if (properties) merged.properties = properties;
  return merged;
}

/** Properties of either; one that only one schema names is to the other an additional one. */
function mergeProperties(a: Schema, b: Schema): Record<string, unknown> | undefined {
  if (!a.properties && !b.properties) return undefined;
  const of = (schema: Schema, name: string) =>
    schema.properties && Object.hasOwn(schema.properties, name)
      ? schema.properties[name]
      : (schema.additionalProperties ?? true);
  const names = new Set([...Object.keys(a.properties ?? {}), ...Object.keys(b.properties ?? {})]);
  return Object.fromEntries(
    [...names].map((name) => {
      const [one, other] = [of(a, name), of(b, name)];
      if (one === false || other === false) return [name, false];
      return [name, one === true ? other : other === true ? one : { allOf: [one, other] }];
    }),
  );
}

/** `integer` is part of `number`. */
export function commonTypes(a: readonly string[], b: readonly string[]): string[] {
  const within = (type: string, types: readonly string[]) =>
    types.includes(type) || (type === 'integer' && types.includes('number'));
  return [...new Set([...a.filter((type) => within(type, b)), ...b.filter((type) => within(type, a))])];
}

/** Whether two JSON values are equal; the order of properties does not count. */
export function isSame(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const names = Object.keys(left);
  return (
    names.length === Object.keys(right).length &&
    names.every((name) => Object.hasOwn(right, name) && isSame(left[name], right[name]))
  );
}
