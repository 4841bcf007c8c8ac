import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { InputError } from '../../src/errors.ts';
import { Automaton } from '../../src/structured/automaton.ts';
import { compileSchema } from '../../src/structured/schema/compile.ts';
import { Random } from '../helpers/random.ts';
import { randomSchema } from './random-schema.ts';
import { matches, randomText } from './random-text.ts';

const ajv = new Ajv2020({ strict: false });
(formats as unknown as (ajv: Ajv2020) => void)(ajv);

/** Generates texts that the grammar of a schema lets through, and has each parsed and judged. */
function expectValid(schema: object, rounds: number, seed = 1): void {
  const random = new Random(seed);
  const automaton = new Automaton(compileSchema(schema));
  const validate = ajv.compile(schema);
  for (let round = 0; round < rounds; round++) {
    const text = randomText(automaton, () => random.next());
    const value: unknown = JSON.parse(text);
    expect(
      validate(value),
      `${JSON.stringify(schema)} let ${text} through: ${ajv.errorsText(validate.errors)}`,
    ).toBe(true);
  }
}

describe('what the grammar of a schema lets through is valid', () => {
  it.each<object>([
    { type: 'integer', minimum: -37, maximum: 1205 },
    { type: 'integer', exclusiveMinimum: 5 },
    { type: 'integer', exclusiveMaximum: -99.5 },
    { type: 'number', minimum: -2.5, exclusiveMaximum: 0.125 },
    { type: 'number', exclusiveMinimum: 0, maximum: 1 },
    { type: 'number', minimum: 0, maximum: 0 },
    { type: 'number', exclusiveMinimum: 0.5, exclusiveMaximum: 0.51 },
    { type: 'number', minimum: 1e-7, maximum: 2e-7 },
    { type: 'number', exclusiveMaximum: 9007199254740990 },
    { type: 'number', minimum: -3.6999999999999993, exclusiveMaximum: -3.4000000000000004 },
    { type: 'number', exclusiveMinimum: 0.30000000000000004, maximum: 1 / 3 },
    { type: 'number', minimum: 1e-25, maximum: 1 },
    { type: 'number' },
    { type: 'string', minLength: 2, maxLength: 4 },
    { type: 'string', pattern: '^[a-c]+\\d{2,3}$', maxLength: 5 },
    { type: 'string', pattern: '^x\\n"', minLength: 4 },
    { type: 'string', pattern: '^\\p{Lu}\\S\\W[^a-z]$' },
    ...['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uuid', 'uri'].map(
      (format) => ({ type: 'string', format }),
    ),
    {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'string' }, c: { enum: [1, 'x', null, { k: [1] }] } },
      required: ['b'],
    },
    {
      type: 'object',
      properties: { a: { type: 'integer' }, ab: { type: 'null' } },
      additionalProperties: { type: 'boolean' },
    },
    {
      type: 'object',
      propertyNames: { pattern: '^[a-z]{1,3}$' },
      properties: { ab: { const: 1 } },
      additionalProperties: { type: 'integer' },
    },
    {
      type: 'object',
      propertyNames: { enum: ['a', 'b'] },
      additionalProperties: { type: 'integer' },
      required: ['a'],
    },
    {},
    { type: 'object', required: ['a'], properties: { b: { const: 1 } } },
    { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 3 },
    { type: 'array', prefixItems: [{ type: 'boolean' }], items: { const: 7 }, minItems: 2 },
    { type: 'string', enum: ['a', 'bc', 1], maxLength: 1 },
    { type: ['string', 'null'], maxLength: 3 },
    { anyOf: [{ type: 'string' }, { minimum: 3 }], maxLength: 2 },
  ])('%j', (schema) => expectValid(schema, 30));

  it('for recursive schemas, whose nesting comes to an end', () => {
    const node = {
      type: 'object',
      properties: { v: { type: 'integer' }, kids: { type: 'array', items: { $ref: '#/$defs/node' } } },
      required: ['v', 'kids'],
    };
    expectValid({ $defs: { node }, $ref: '#/$defs/node' }, 20);
    const list = {
      type: 'object',
      properties: { next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } },
      required: ['next'],
    };
    expectValid(list, 20);
  });

  it('for schemas at random', () => {
    const random = new Random(11);
    for (let round = 0; round < 120; round++) expectValid(randomSchema(random), 3, round);
  });
});

describe('a schema of zod', () => {
  it('is followed with its formats, unions and records', () => {
    const schema = z.object({
      mail: z.email(),
      id: z.uuid(),
      at: z.iso.datetime(),
      for: z.iso.duration(),
      pair: z.tuple([z.string().max(3), z.int().max(9)]),
      counts: z.record(z.enum(['a', 'b']), z.number()),
      shape: z.discriminatedUnion('kind', [
        z.object({ kind: z.literal('dot'), x: z.int() }),
        z.object({ kind: z.literal('none') }),
      ]),
      note: z.string().startsWith('ab').max(6).optional(),
      rate: z.number().gt(3).lte(9).nullable(),
    });
    const random = new Random(5);
    const automaton = new Automaton(compileSchema(z.toJSONSchema(schema, { io: 'input' })));
    for (let round = 0; round < 40; round++)
      schema.parse(JSON.parse(randomText(automaton, () => random.next())));
  });
});

describe('texts that are valid', () => {
  it('are let through, spaced as models space them', () => {
    const node = compileSchema({
      type: 'object',
      properties: { a: { type: 'array', items: { type: 'number' } }, b: { type: 'string' } },
      required: ['a'],
    });
    for (const value of [{ a: [] }, { a: [1, -2.5e3], b: 'ü\n"\\' }])
      for (const text of [
        JSON.stringify(value),
        JSON.stringify(value, null, 2),
        JSON.stringify(value, null, '\t'),
      ])
        expect(matches(node, text), text).toBe(true);
    for (const text of [
      '{"b": "x"}',
      '{"a": [1,]}',
      '{"a": [01]}',
      '{"a": [], "a": []}',
      '{"a": []} ',
      '{"a": [], "b": "\u0001"}',
    ])
      expect(matches(node, text), text).toBe(false);
  });

  it('may spell what they like in strings, but no lone surrogates and no bytes that are no UTF-8', () => {
    const node = compileSchema({ type: 'string', maxLength: 2 });
    for (const text of ['"\\ud83d\\ude00x"', '"😀x"', '"\\u00e9\\/"'])
      expect(matches(node, text), text).toBe(true);
    for (const text of ['"\\ud83d"', '"😀xy"', '"\\x"']) expect(matches(node, text), text).toBe(false);
  });
});

describe('a schema that cannot be enforced', () => {
  it.each<[unknown, string]>([
    [{ properties: { a: { not: {} } } }, '#/properties/a/not is a keyword that generation cannot follow'],
    [{ type: 'array', uniqueItems: true }, '#/uniqueItems'],
    [{ type: 'number', multipleOf: 0.1 }, '#/multipleOf'],
    [{ items: { minLenght: 3 } }, '#/items/minLenght is no keyword. Did you mean "minLength"?'],
    [
      { properties: { 'a/b': { type: 'text' } } },
      '#/properties/a~1b/type is "text"; expected one or several of object, array',
    ],
    [
      { type: 'integer', minimum: 1e20 },
      '#/minimum is 100000000000000000000, but numbers are followed as far as 9007199254740991',
    ],
    [
      { anyOf: [{ type: 'number', exclusiveMaximum: -(2 ** 53) }, { type: 'null' }] },
      '#/anyOf/0/exclusiveMaximum is -9007199254740992, but numbers are followed as far as -9007199254740991',
    ],
    [
      { type: 'array', prefixItems: [{ type: 'null' }], additionalItems: false },
      '#/additionalItems is a keyword that generation cannot follow; list the first items as prefixItems, and put in items',
    ],
    [
      { type: 'array', items: [{ type: 'null' }] },
      '#/items is [{"type":"null"}]; expected a schema, which is an object or true or false. A list of them, one for each item, is called prefixItems',
    ],
    [
      {
        anyOf: [
          { type: 'integer', minimum: 3, maximum: 2 },
          { type: 'number', minimum: 5, maximum: 4 },
        ],
      },
      '#/anyOf/0 allows no value at all, as its keywords contradict each other',
    ],
    [{ type: 'integer', minimum: '5' }, '#/minimum is malformed ("5"): expected a number'],
    [{ type: 'string', format: 'dat' }, '#/format is "dat". Did you mean "date"?'],
    [
      { type: 'string', pattern: 'a(?=b)' },
      '#/pattern is "a(?=b)", which cannot be followed: it looks ahead',
    ],
    [{ type: 'string', pattern: '(a)\\1' }, '#/pattern'],
    [{ $ref: '#/$defs/x' }, '#/$ref is "#/$defs/x", but the schema has nothing there'],
    [{ $ref: 'https://example.com/x' }, 'expected a place in the same schema'],
    [{ $ref: '#' }, '# allows no value that comes to an end'],
    [
      {
        $defs: { a: { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, required: ['a'] } },
        $ref: '#/$defs/a',
      },
      '#/$defs/a allows no value',
    ],
    [{ allOf: [{ $ref: '#' }], type: 'object' }, 'leads back to itself'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '#/oneOf/1 may hold together with case 0'],
    [{ type: 'integer', minimum: 3, maximum: 2 }, '# allows no value at all, as its keywords contradict'],
    [{ type: 'string', minLength: 3, maxLength: 2 }, '#/maxLength is 2, below minLength, 3'],
    [
      { type: 'object', required: ['a'], properties: { a: false } },
      '#/properties/a asks for "a", which can have no value',
    ],
    [{ enum: ['a'], type: 'integer' }, 'allows none of its constants'],
    [{ type: 'string', maxLength: 1e9 }, '#/maxLength is malformed'],
    [7, '# is 7; expected a schema'],
  ])('%j is refused by its path', (schema, message) => {
    expect(() => compileSchema(schema)).toThrow(InputError);
    expect(() => compileSchema(schema)).toThrow(message);
  });

  it('is refused where it is too deep or too large, at once', () => {
    let deep: object = { type: 'null' };
    for (let i = 0; i < 5000; i++) deep = { type: 'array', items: deep };
    expect(() => compileSchema(deep)).toThrow('nested more than');
    const pattern = { type: 'string', pattern: '^(?:[a-z]{1,9}-?){1,900}$', maxLength: 9000 };
    const slow = { prefixItems: Array.from({ length: 500 }, () => pattern) };
    expect(() => compileSchema(slow)).toThrow(/more states than are followed|more than 2 s to compile/);
    const wide = { anyOf: Array.from({ length: 30_000 }, () => ({ type: 'null' })) };
    expect(() => compileSchema(wide)).toThrow('more than are compiled');
  });
});
