import { flagOf, integerOf, type Signature } from './arguments.ts';
import { TemplateFault } from './budget.ts';
import { attributeGetter, Group, ignoreCase, multiAttributeGetter, sortedBy } from './filter-helpers.ts';
import { isIterable, iterate, lengthOf, toList } from './iterate.ts';
import { binary, isEqual, isLess } from './operators.ts';
import {
  type Arguments,
  characters,
  Dict,
  DictView,
  either,
  isTrue,
  type Runtime,
  Stream,
  type Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

type Filter = Signature<Value>;

/** Filters over lists and dicts. Source: Jinja 3.1 `jinja2/filters.py`. */
export const LIST_FILTERS: Readonly<Record<string, Filter>> = {
  length: ['', (value, _args, { budget }) => BigInt(lengthOf(value, budget))],
  count: ['', (value, _args, { budget }) => BigInt(lengthOf(value, budget))],
  list: ['', (value, _args, { budget }) => toList(value, budget)],
  first: ['', (value, _args, runtime) => first(value, runtime)],
  last: ['', (value, _args, runtime) => first(reverse(value, runtime, true), runtime, 'last')],
  random: ['', (value, _args, runtime) => random(value, runtime)],
  reverse: ['', (value, _args, runtime) => reverse(value, runtime)],
  items: ['', (value) => items(value)],
  sort: [
    'reverse? case_sensitive? attribute?',
    (value, [reversed, sensitive, attribute], runtime) => {
      const get = multiAttributeGetter(attribute, runtime);
      const key = flagOf(sensitive)
        ? get
        : (item: Value) => get(item).map((one) => ignoreCase(one, runtime.budget));
      return sortedBy(value, key, flagOf(reversed), runtime);
    },
  ],
  dictsort: [
    'case_sensitive? by? reverse?',
    (value, [sensitive, by = 'key', reversed], runtime) => {
      if (by !== 'key' && by !== 'value')
        throw new TemplateFault('You can only sort by either "key" or "value"');
      if (!(value instanceof Dict))
        throw new TemplateFault(`'${typeName(value)}' object has no attribute 'items'`);
      const key = (item: Value) => (item as Tuple).items[by === 'key' ? 0 : 1] as Value;
      const folded = flagOf(sensitive) ? key : (item: Value) => ignoreCase(key(item), runtime.budget);
      return sortedBy(new DictView('items', value), folded, flagOf(reversed), runtime);
    },
  ],
  unique: [
    'case_sensitive? attribute?',
    (value, [sensitive, attribute], runtime) =>
      new Stream(unique(value, flagOf(sensitive), attribute, runtime)),
  ],
  min: ['case_sensitive? attribute?', (value, args, runtime) => extreme(value, args, -1, runtime)],
  max: ['case_sensitive? attribute?', (value, args, runtime) => extreme(value, args, 1, runtime)],
  sum: [
    'attribute? start?',
    (value, [attribute, start = 0n], runtime) => {
      if (typeof start === 'string')
        throw new TemplateFault("sum() can't sum strings [use ''.join(seq) instead]");
      const get = attributeGetter(attribute, runtime);
      let total: Value = start;
      for (const item of iterate(value, runtime.budget))
        total = binary('+', total, get(item), runtime.budget);
      return total;
    },
  ],
  groupby: ['attribute default? case_sensitive?', groupBy],
  batch: [
    'linecount fill_with?',
    (value, [count, fill = null], runtime) =>
      new Stream(batch(value, integerOf(count, 'linecount'), fill, runtime)),
  ],
  slice: [
    'slices fill_with?',
    (value, [count, fill = null], runtime) =>
      new Stream(slices(value, integerOf(count, 'slices'), fill, runtime)),
  ],
};

/** Filters that hand their arguments on to another filter or test. */
export const HIGHER_FILTERS: Readonly<
  Record<string, (value: Value, args: Arguments, runtime: Runtime) => Value>
> = {
  map: (value, args, runtime) => new Stream(map(value, mapper(args, runtime), runtime)),
  select: (value, args, runtime) => new Stream(filter(value, (item) => item, args, true, runtime)),
  reject: (value, args, runtime) => new Stream(filter(value, (item) => item, args, false, runtime)),
  selectattr: (value, args, runtime) => filterByAttribute(value, args, true, runtime),
  rejectattr: (value, args, runtime) => filterByAttribute(value, args, false, runtime),
};

function first(value: Value, { budget }: Runtime, which = 'first'): Value {
  for (const item of iterate(value, budget)) return item;
  return new Undefined(`No ${which} item, sequence was empty.`);
}

function random(value: Value, { budget }: Runtime): Value {
  const all = toList(value, budget);
  return either(
    all[Math.floor(Math.random() * all.length)],
    new Undefined('No random item, sequence was empty.'),
  );
}

function reverse(value: Value, { budget }: Runtime, strict = false): Value {
  if (typeof value === 'string' && !strict) {
    budget.text(value.length);
    return characters(value).reverse().join('');
  }
  if (strict && value instanceof Stream) throw new TemplateFault("'generator' object is not reversible");
  if (value instanceof Undefined || isIterable(value))
    return new Stream(toList(value, budget).reverse()[Symbol.iterator]());
  throw new TemplateFault(
    strict ? `'${typeName(value)}' object is not reversible` : 'argument must be iterable',
  );
}

function items(value: Value): Value {
  if (value instanceof Undefined) return new Stream([][Symbol.iterator]());
  if (value instanceof Dict) return new Stream(new DictView('items', value).items()[Symbol.iterator]());
  throw new TemplateFault('Can only get item pairs from a mapping.');
}

function* unique(
  value: Value,
  sensitive: boolean,
  attribute: Value | undefined,
  runtime: Runtime,
): Generator<Value, void, undefined> {
  const get = attributeGetter(attribute, runtime);
  const seen = new Dict();
  for (const item of iterate(value, runtime.budget)) {
    const key = sensitive ? get(item) : ignoreCase(get(item), runtime.budget);
    if (seen.get(key) !== undefined) continue;
    seen.set(key, true);
    yield item;
  }
}

function extreme(
  value: Value,
  [sensitive, attribute]: readonly (Value | undefined)[],
  sign: number,
  runtime: Runtime,
): Value {
  const { budget } = runtime;
  const get = attributeGetter(attribute, runtime);
  const key = (item: Value) => (flagOf(sensitive) ? get(item) : ignoreCase(get(item), runtime.budget));
  let best: Value | undefined;
  for (const item of iterate(value, budget)) {
    if (best === undefined) best = item;
    else if (sign > 0 ? isLess(key(best), key(item), budget) : isLess(key(item), key(best), budget))
      best = item;
  }
  return either(best, new Undefined('No aggregated item, sequence was empty.'));
}

function groupBy(
  value: Value,
  [attribute, otherwise, sensitive]: readonly (Value | undefined)[],
  runtime: Runtime,
): Value {
  const get = attributeGetter(attribute, runtime, otherwise);
  const key = (item: Value) => (flagOf(sensitive) ? get(item) : ignoreCase(get(item), runtime.budget));
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of sortedBy(value, key, false, runtime)) {
    const last = groups.at(-1);
    if (last !== undefined && isEqual(last.key, key(item), runtime.budget)) last.items.push(item);
    else groups.push({ key: key(item), items: [item] });
  }
  return groups.map((group) => new Group([get(group.items[0] as Value), group.items]));
}

function* batch(
  value: Value,
  count: number,
  fill: Value,
  { budget }: Runtime,
): Generator<Value, void, undefined> {
  let row: Value[] = [];
  for (const item of iterate(value, budget)) {
    if (row.length === count) {
      budget.items(row.length);
      yield row;
      row = [];
    }
    row.push(item);
  }
  if (row.length === 0) return;
  if (fill !== null && row.length < count) {
    budget.items(count);
    while (row.length < count) row.push(fill);
  }
  yield row;
}

function* slices(
  value: Value,
  count: number,
  fill: Value,
  { budget }: Runtime,
): Generator<Value, void, undefined> {
  const all = toList(value, budget);
  if (count === 0) throw new TemplateFault('integer division or modulo by zero');
  const size = Math.floor(all.length / count);
  const longer = all.length - size * count;
  let start = 0;
  for (let i = 0; i < count; i++) {
    const end = start + size + (i < longer ? 1 : 0);
    budget.items(end - start + 1);
    yield fill !== null && i >= longer ? [...all.slice(start, end), fill] : all.slice(start, end);
    start = end;
  }
}

function* map(
  value: Value,
  change: (item: Value) => Value,
  { budget }: Runtime,
): Generator<Value, void, undefined> {
  for (const item of iterate(value, budget)) yield change(item);
}

function mapper({ positional, named }: Arguments, runtime: Runtime): (item: Value) => Value {
  const attribute = named.get('attribute');
  if (positional.length === 0 && attribute !== undefined) {
    const unexpected = [...named.keys()].find((key) => key !== 'attribute' && key !== 'default');
    if (unexpected !== undefined) throw new TemplateFault(`Unexpected keyword argument '${unexpected}'`);
    return attributeGetter(attribute, runtime, named.get('default'));
  }
  const [name, ...rest] = positional;
  if (typeof name !== 'string') throw new TemplateFault('map requires a filter argument');
  return (item) => runtime.filter(name, item, { positional: rest, named });
}

function filterByAttribute(value: Value, args: Arguments, wanted: boolean, runtime: Runtime): Value {
  const [attribute, ...rest] = args.positional;
  if (attribute === undefined) throw new TemplateFault('Missing parameter for attribute name');
  const get = attributeGetter(attribute, runtime);
  return new Stream(filter(value, get, { positional: rest, named: args.named }, wanted, runtime));
}

function* filter(
  value: Value,
  get: (item: Value) => Value,
  { positional, named }: Arguments,
  wanted: boolean,
  runtime: Runtime,
): Generator<Value, void, undefined> {
  const [name, ...rest] = positional;
  const holds = (item: Value) =>
    name === undefined ? isTrue(item) : runtime.test(name as string, item, { positional: rest, named });
  for (const item of iterate(value, runtime.budget)) {
    if (holds(get(item)) === wanted) yield item;
  }
}
