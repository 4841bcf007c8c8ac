import type { Random } from '../helpers/random.ts';

/** A JSON schema at random, of all that is followed; every value it allows is short. */
export function randomSchema(random: Random, depth = 3): Record<string, unknown> {
  const pick = <T>(...items: T[]): T => items[Math.floor(random.next() * items.length)] as T;
  const upTo = (most: number) => Math.floor(random.next() * (most + 1));
  const inner = () => randomSchema(random, depth - 1);
  const integer = () => upTo(2000) - 1000;
  const scalars = [
    () => ({ type: 'boolean' }),
    () => ({ type: 'null' }),
    () => ({ type: pick('integer', 'number') }),
    () => {
      const least = integer();
      return { type: 'integer', minimum: least, maximum: least + upTo(300) };
    },
    () => ({
      type: 'integer',
      [pick('exclusiveMinimum', 'exclusiveMaximum', 'minimum', 'maximum')]: integer(),
    }),
    () => {
      const least = Number((random.next() * 20 - 10).toFixed(upTo(3)));
      return {
        type: 'number',
        [pick('minimum', 'exclusiveMinimum')]: least,
        [pick('maximum', 'exclusiveMaximum')]: least + 1 + upTo(9),
      };
    },
    () => {
      const least = upTo(4);
      return { type: 'string', minLength: least, maxLength: least + upTo(6) };
    },
    () => ({
      type: 'string',
      pattern: pick('^[a-f]{2,5}$', '^(?:ab|c\\d)+$', '^\\w{1,4}-\\d{2}$', '^["\\\\\\n]{1,3}$'),
      maxLength: 8,
    }),
    () => ({
      type: 'string',
      format: pick('date', 'time', 'date-time', 'uuid', 'ipv4', 'email', 'duration', 'hostname'),
    }),
    () => ({ enum: [pick('a', 'b"c', 'ü'), integer(), null, pick<unknown>(true, { k: [1] }, [])] }),
    () => ({ const: pick<unknown>('x', 0, -1.5, false, { a: 1 }) }),
    () => ({ type: [pick('boolean', 'integer'), 'null'] }),
  ];
  if (depth === 0) return pick(...scalars)();
  const property = () => pick('a', 'b', 'name', 'ключ', 'with "quotes"', 'x y');
  const object = () => {
    const properties = Object.fromEntries(Array.from({ length: upTo(4) }, () => [property(), inner()]));
    const names = Object.keys(properties);
    return {
      type: 'object',
      properties,
      required: names.filter(() => random.next() < 0.6),
      ...(random.next() < 0.3 && { additionalProperties: false }),
    };
  };
  const containers = [
    object,
    object,
    () => {
      const least = upTo(2);
      return { type: 'array', items: inner(), minItems: least, maxItems: least + upTo(2) };
    },
    () => ({ type: 'array', prefixItems: [inner(), inner()], items: false }),
    () => ({ anyOf: [inner(), inner()] }),
    () => ({ allOf: [{ type: 'object', properties: { a: inner() }, required: ['a'] }, object2(inner)] }),
    () => ({
      oneOf: [
        { type: 'object', properties: { kind: { const: 1 }, v: inner() }, required: ['kind'] },
        { type: 'object', properties: { kind: { const: 2 } }, required: ['kind'] },
      ],
    }),
    () => ({
      $defs: { part: inner() },
      type: 'object',
      properties: { one: { type: 'integer' } },
      required: ['one'],
    }),
  ];
  return random.next() < 0.6 ? pick(...containers)() : pick(...scalars)();
}

const object2 = (inner: () => unknown) => ({ properties: { b: inner() }, required: ['b'] });
