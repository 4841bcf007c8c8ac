import { Automaton } from '../automaton.ts';
import { choice, EMPTY, literal, NEVER, type Node, optional, repeat, sequence } from '../grammar.ts';
import { intersect } from '../intersect.ts';
import { bracketed, COLON, COMMA, OBJECT, SPACE, STRING, stringOtherThan, VALUE } from '../json-text.ts';
import { below, type Clock, type Path, refuse } from './errors.ts';
import type { Schema } from './keywords.ts';

/** Makes the grammar of a schema inside another. */
export type CompilePart = (value: unknown, path: Path) => Node;

/** Properties that one object may list. */
const MOST_PROPERTIES = 1000;

interface Property {
  readonly name: string;
  readonly value: Node;
  readonly isRequired: boolean;
}

/** @param flat a schema with what it refers to */
export function objectNode(
  schema: Schema,
  path: Path,
  compile: CompilePart,
  flat: (value: unknown, path: Path) => Schema | undefined,
  clock: Clock,
): Node {
  const { properties = {}, required = [], propertyNames } = schema;
  const isPlain = schema.properties === undefined && required.length === 0;
  if (isPlain && propertyNames === undefined && (schema.additionalProperties ?? true) === true) return OBJECT;

  // Names alone make no closed object of what says nothing of others.
  const further = schema.additionalProperties ?? propertyNames !== undefined;
  const furtherPath = below(path, 'additionalProperties');
  const furtherValue = further === false ? NEVER : compile(further, furtherPath);
  // What is required and described nowhere may be anything.
  const undescribed = schema.additionalProperties === undefined ? VALUE : furtherValue;
  const listedNames =
    propertyNames === undefined
      ? undefined
      : constantNames(propertyNames, below(path, 'propertyNames'), flat);
  const names = [...new Set([...Object.keys(properties), ...required, ...(listedNames ?? [])])];
  if (names.length > MOST_PROPERTIES)
    refuse(path, `has ${names.length} properties; at most ${MOST_PROPERTIES} are followed`);
  const nameNode =
    propertyNames === undefined || listedNames
      ? undefined
      : compile(propertyNames, below(path, 'propertyNames'));
  const mayBeNamed = nameJudge(nameNode, listedNames);

  const all = names.map((name): Property => {
    const isOwn = Object.hasOwn(properties, name);
    const value = isOwn ? compile(properties[name], below(path, 'properties', name)) : undescribed;
    const isRequired = required.includes(name);
    const isPossible = value !== NEVER && mayBeNamed(name);
    if (isRequired && !isPossible)
      refuse(
        isOwn ? below(path, 'properties', name) : below(path, 'required'),
        `asks for ${JSON.stringify(name)}, which can have no value`,
      );
    return { name, value: isPossible ? value : NEVER, isRequired };
  });
  const key = listedNames ? undefined : furtherKey(names, nameNode, below(path, 'propertyNames'), clock);
  const member = key && furtherValue !== NEVER ? sequence(key, SPACE, COLON, furtherValue, SPACE) : undefined;
  return bracketed(
    '{',
    membersNode(
      all.filter(({ value }) => value !== NEVER),
      member,
    ),
    '}',
  );
}

/** Members in their order, with commas between those that are there. */
function membersNode(properties: readonly Property[], further: Node | undefined): Node {
  let afterNone: Node = further ? optional(sequence(further, repeat(sequence(COMMA, further), 0))) : EMPTY;
  let afterSome: Node = further ? repeat(sequence(COMMA, further), 0) : EMPTY;
  for (const { name, value, isRequired } of properties.toReversed()) {
    const member = sequence(literal(JSON.stringify(name)), SPACE, COLON, value, SPACE);
    const first = sequence(member, afterSome);
    const next = sequence(COMMA, member, afterSome);
    afterNone = isRequired ? first : choice(first, afterNone);
    afterSome = isRequired ? next : choice(next, afterSome);
  }
  return afterNone;
}

/** The names that `propertyNames` lists; undefined where it describes them otherwise. */
function constantNames(
  value: unknown,
  path: Path,
  flat: (value: unknown, path: Path) => Schema | undefined,
): string[] | undefined {
  const schema = flat(value, path);
  const values = schema?.const === undefined ? schema?.enum : [schema.const];
  return values?.filter((one): one is string => typeof one === 'string');
}

function nameJudge(node: Node | undefined, listed: readonly string[] | undefined): (name: string) => boolean {
  if (listed) return (name) => listed.includes(name);
  if (!node) return () => true;
  const automaton = new Automaton(node);
  return (name) => automaton.read(automaton.start, Buffer.from(JSON.stringify(name)))?.accepts === true;
}

/** A name other than the listed ones. */
function furtherKey(names: readonly string[], nameNode: Node | undefined, path: Path, clock: Clock): Node {
  if (!nameNode) return names.length === 0 ? STRING : stringOtherThan(names);
  if (names.length === 0) return nameNode;
  const node = intersect([nameNode, stringOtherThan(names)], () => clock(path));
  return node ?? refuse(path, 'describes names by more states than are followed; list them');
}

export function arrayNode(schema: Schema, path: Path, compile: CompilePart): Node {
  const { prefixItems = [], minItems = 0, maxItems = Infinity } = schema;
  if (maxItems < minItems) refuse(below(path, 'maxItems'), `is ${maxItems}, below minItems, ${minItems}`);
  const first = prefixItems
    .slice(0, maxItems)
    .map((one, i) => itemNode(compile(one, below(path, 'prefixItems', i)), below(path, 'prefixItems', i)));
  const items = schema.items ?? prefixItems.length === 0;
  const one = items === false ? NEVER : compile(items, below(path, 'items'));
  const most = one === NEVER ? 0 : maxItems - first.length;
  const least = Math.max(0, minItems - first.length);
  if (least > most)
    refuse(below(path, 'minItems'), `is ${minItems}, but there can be no more than ${first.length} items`);
  const item = sequence(one, SPACE);
  const further = repeat(sequence(COMMA, item), least, most);
  if (first.length > 0) {
    const joined = first.flatMap((node, i) => (i === 0 ? [node] : [COMMA, node]));
    return bracketed('[', sequence(...joined, further), ']');
  }
  if (most === 0) return bracketed('[', EMPTY, ']');
  const some = sequence(item, repeat(sequence(COMMA, item), Math.max(0, least - 1), most - 1));
  return bracketed('[', least === 0 ? optional(some) : some, ']');
}

function itemNode(node: Node, path: Path): Node {
  return node === NEVER ? refuse(path, 'can have no value') : sequence(node, SPACE);
}
