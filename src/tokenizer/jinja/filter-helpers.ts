import { getItem } from './access.ts';
import type { Budget } from './budget.ts';
import { toList } from './iterate.ts';
import { isLess } from './operators.ts';
import { type Runtime, Tuple, Undefined, type Value } from './values.ts';

/** Gets one attribute of an item: `name`, `name.part.0`. Source: Jinja 3.1 `filters.py`, `make_attrgetter`. */
export function attributeGetter(
  attribute: Value | undefined,
  runtime: Runtime,
  otherwise?: Value,
): (item: Value) => Value {
  if (attribute === undefined || attribute === null) return (item) => item;
  const parts = typeof attribute === 'string' ? attribute.split('.').map(keyOf) : [attribute];
  return (item) => {
    let value = item;
    for (const part of parts) {
      value = getItem(value, part, runtime);
      if (value instanceof Undefined && otherwise !== undefined && otherwise !== null) value = otherwise;
    }
    return value;
  };
}

/** As `attributeGetter`, of several attributes with commas between. */
export function multiAttributeGetter(
  attribute: Value | undefined,
  runtime: Runtime,
): (item: Value) => Value[] {
  const attributes = typeof attribute === 'string' ? attribute.split(',') : [attribute];
  const getters = attributes.map((one) => attributeGetter(one, runtime));
  return (item) => getters.map((get) => get(item));
}

function keyOf(part: string): Value {
  return /^\d+$/.test(part) ? BigInt(part) : part;
}

export function ignoreCase(value: Value, budget: Budget): Value {
  budget.read(value);
  return typeof value === 'string' ? value.toLowerCase() : value;
}

/** `sorted(values, key=key, reverse=reverse)` of Python: stable, also in reverse. */
export function sortedBy(
  values: Value,
  key: (item: Value) => Value,
  reverse: boolean,
  runtime: Runtime,
): Value[] {
  const { budget } = runtime;
  const keyed = toList(values, budget).map((item) => ({ item, key: key(item) }));
  const compare = (a: Value, b: Value) => (isLess(a, b, budget) ? -1 : Number(isLess(b, a, budget)));
  keyed.sort((a, b) => (reverse ? compare(b.key, a.key) : compare(a.key, b.key)));
  return keyed.map(({ item }) => item);
}

/** A pair of `groupby`: also `.grouper` and `.list`. */
export class Group extends Tuple {
  override attribute(name: string): Value | undefined {
    if (name === 'grouper') return this.items[0];
    return name === 'list' ? this.items[1] : undefined;
  }
}
