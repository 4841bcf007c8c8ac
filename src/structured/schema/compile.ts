import { show } from '../../errors.ts';
import { Automaton, nestingOf } from '../automaton.ts';
import { choice, NEVER, type Node, type Reference, reachable } from '../grammar.ts';
import { BOOLEAN, NULL, VALUE, valueLiteral } from '../json-text.ts';
import { integerWithin, LARGEST, numberWithin } from '../numbers.ts';
import { arrayNode, type CompilePart, objectNode } from './containers.ts';
import { below, newClock, type Path, refuse } from './errors.ts';
import { excludeEachOther } from './exclusive.ts';
import { checkKeywords, type Schema, TYPES, type TypeName } from './keywords.ts';
import { Resolver } from './resolve.ts';
import { stringNode } from './strings.ts';

/** Schemas within schemas that are compiled in all, and how deep. */
const MOST_SCHEMAS = 20_000;
const MOST_NESTED = 100;

/**
 * The JSON texts that are valid by a schema, as a grammar. What is generated is valid, though not all that is valid can be generated: properties
 * come in the order in which the schema lists them, and no others unless `additionalProperties` allows them in so many words.
 *
 * Followed are types, enum, const, properties, required, additionalProperties, propertyNames, items, prefixItems, bounds of numbers, lengths and counts,
 * pattern, format, anyOf, allOf, oneOf where its cases exclude each other, and `$ref` within the schema, recursive ones too.
 *
 * @param path where the schema stands, for messages
 * @throws InputError with the path of what cannot be enforced
 */
export function compileSchema(schema: unknown, path: Path = '#'): Node {
  const compiler = new Compiler(schema);
  const root = compiler.compile(schema, path);
  compiler.checkEnds(root);
  return root;
}

/** Compiles the schemas within one document; places that are referred to, once. */
export class Compiler {
  readonly #resolver: Resolver;
  readonly clock = newClock();
  readonly #references = new Map<string, Reference>();
  /** Places without a value of the type they name. */
  readonly #impossible: Path[] = [];
  #schemas = 0;
  #depth = 0;

  constructor(document: unknown) {
    this.#resolver = new Resolver(document);
  }

  compile(value: unknown, path: Path): Node {
    if (value === true) return VALUE;
    if (value === false) return NEVER;
    if (++this.#schemas > MOST_SCHEMAS)
      refuse(path, `is beyond ${MOST_SCHEMAS} schemas, more than are compiled at once`);
    if (++this.#depth > MOST_NESTED) refuse(path, `is nested more than ${MOST_NESTED} deep`);
    this.clock(path);
    const node = this.#compile(value, path);
    this.#depth--;
    return node;
  }

  /** A schema with what it refers to; see `Resolver`. */
  flat(value: unknown, path: Path): Schema | undefined {
    return this.#resolver.flat(value, path);
  }

  /** @throws InputError where a schema, such as one that requires itself, has no value that comes to an end */
  checkEnds(root: Node): void {
    const nesting = nestingOf(reachable(root));
    if ((nesting.get(root) as number) < Infinity) return;
    const endless = [...this.#references].find(([, reference]) => nesting.get(reference) === Infinity);
    if (endless) refuse(endless[0], 'allows no value that comes to an end');
    refuse(this.#impossible[0] ?? '#', 'allows no value at all, as its keywords contradict each other');
  }

  #compile(value: unknown, path: Path): Node {
    const given = checkKeywords(value, path);
    if (given.$ref !== undefined && Object.keys(given).length === 1) return this.#reference(given.$ref, path);
    const schema = this.#resolver.flat(value, path);
    if (!schema) return NEVER;
    if (schema.anyOf) return this.#alternatives(schema, 'anyOf', path);
    if (schema.oneOf) return this.#alternatives(schema, 'oneOf', path);
    if (schema.const !== undefined || schema.enum) return this.#values(schema, path);
    const node = choice(...typesOf(schema).map((type) => this.#typed(type, schema, path)));
    if (node === NEVER) this.#impossible.push(path);
    return node;
  }

  /** A place elsewhere in the schema, compiled once. */
  #reference(pointer: string, path: Path): Node {
    let reference = this.#references.get(pointer);
    if (!reference) {
      reference = { kind: 'reference', target: undefined };
      this.#references.set(pointer, reference);
      const target = this.#resolver.target(pointer, below(path, '$ref'));
      reference.target = this.compile(target, pointer);
    }
    return reference;
  }

  #alternatives(schema: Schema, keyword: 'anyOf' | 'oneOf', path: Path): Node {
    const { [keyword]: cases = [], ...rest } = schema;
    if (keyword === 'oneOf') this.#checkExclusive(cases, path);
    const before = this.#impossible.length;
    const nodes = cases.map((one, i) => {
      const at = below(path, keyword, i);
      return Object.keys(rest).length === 0
        ? this.compile(one, at)
        : this.compile({ allOf: [rest, one] }, at);
    });
    // Where another case has a value, one without is no fault.
    if (nodes.some((node) => node !== NEVER)) this.#impossible.length = before;
    return choice(...nodes);
  }

  #checkExclusive(cases: readonly unknown[], path: Path): void {
    const flat = cases.map((one, i) => this.#resolver.flat(one, below(path, 'oneOf', i)));
    for (const [i, one] of flat.entries())
      for (const [j, other] of flat.slice(0, i).entries()) {
        if (!one || !other || excludeEachOther(one, other)) continue;
        refuse(
          below(path, 'oneOf', i),
          `may hold together with case ${j}, and that only one does cannot be enforced; use anyOf, or give each case a ` +
            'required property with a const of its own',
        );
      }
  }

  /** Constants, as far as what else the schema says allows them. */
  #values(schema: Schema, path: Path): Node {
    const { enum: listed, const: constant, ...rest } = schema;
    const values = constant === undefined ? (listed ?? []) : [constant];
    const among = values.filter((value) => constant === undefined || !listed || listed.includes(value));
    const isFree = Object.keys(rest).length === 0;
    const judge = isFree ? undefined : new Automaton(this.compile(rest, path));
    const isValid = (value: unknown) =>
      !judge || judge.read(judge.start, Buffer.from(JSON.stringify(value)))?.accepts === true;
    const valid = among.filter(isValid);
    if (valid.length === 0) refuse(path, `allows none of its constants: ${show(values)}`);
    return choice(...valid.map(valueLiteral));
  }

  #typed(type: TypeName, schema: Schema, path: Path): Node {
    const compile: CompilePart = (value, at) => this.compile(value, at);
    switch (type) {
      case 'object':
        return objectNode(schema, path, compile, (value, at) => this.flat(value, at), this.clock);
      case 'array':
        return arrayNode(schema, path, compile);
      case 'string':
        return stringNode(schema, path, this.clock);
      case 'integer':
        checkReach(schema, path);
        return integerWithin(schema);
      case 'number':
        checkReach(schema, path);
        return numberWithin(schema);
      case 'boolean':
        return BOOLEAN;
      case 'null':
        return NULL;
    }
  }
}

/** @throws InputError for bounds that leave only numbers beyond those that are followed */
function checkReach(schema: Schema, path: Path): void {
  const sides = [
    [['minimum', 'exclusiveMinimum'], 1],
    [['maximum', 'exclusiveMaximum'], -1],
  ] as const;
  for (const [keywords, sign] of sides)
    for (const keyword of keywords) {
      const bound = (schema[keyword] ?? 0) * sign;
      if (bound < LARGEST || (bound === LARGEST && !keyword.startsWith('exclusive'))) continue;
      refuse(
        below(path, keyword),
        `is ${schema[keyword]}, but numbers are followed as far as ${sign * LARGEST}, beyond which they are not exact. Set a bound nearer to 0, ` +
          'or take a string with a pattern of digits',
      );
    }
}

/** Types that keywords speak of, where a schema names none. */
const IMPLIED: readonly (readonly [TypeName, readonly (keyof Schema)[]])[] = [
  ['object', ['properties', 'required', 'additionalProperties', 'propertyNames']],
  ['array', ['items', 'prefixItems', 'minItems', 'maxItems']],
  ['string', ['minLength', 'maxLength', 'pattern', 'format']],
  ['number', ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']],
];

function typesOf(schema: Schema): readonly TypeName[] {
  const named = schema.type === undefined ? impliedTypes(schema) : ([schema.type].flat() as TypeName[]);
  const types = named.includes('number') ? named.filter((type) => type !== 'integer') : named;
  return schema.nullable === true && !types.includes('null') ? [...types, 'null'] : types;
}

function impliedTypes(schema: Schema): readonly TypeName[] {
  const implied = IMPLIED.filter(([, keywords]) => keywords.some((keyword) => schema[keyword] !== undefined));
  return implied.length > 0 ? implied.map(([type]) => type) : TYPES;
}
