import { type Budget, TemplateFault } from './budget.ts';
import {
  characters,
  Dict,
  DictView,
  PythonObject,
  Range,
  Stream,
  Tuple,
  textLength,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** `iter(value)` of Python. */
export function* iterate(value: Value, budget: Budget): Generator<Value, void, undefined> {
  if (value instanceof Undefined) return;
  if (value instanceof Range) {
    for (let i = 0; i < value.length; i++) {
      budget.step();
      yield value.at(i);
    }
    return;
  }
  if (value instanceof Stream) {
    for (let next = value.values.next(); !next.done; next = value.values.next()) {
      budget.step();
      yield next.value;
    }
    return;
  }
  for (const item of known(value, budget)) {
    budget.step();
    yield item;
  }
}

/** `list(value)` of Python. */
export function toList(value: Value, budget: Budget): Value[] {
  if (value instanceof Undefined) return [];
  if (value instanceof Range || value instanceof Stream) {
    const items: Value[] = [];
    for (const item of iterate(value, budget)) {
      items.push(item);
      if (items.length % 4096 === 0) budget.items(4096);
    }
    budget.items(items.length % 4096);
    return items;
  }
  const items = known(value, budget);
  budget.items(items.length);
  return [...items];
}

/** Whether `iter(value)` works, as the test `iterable` asks. */
export function isIterable(value: Value): boolean {
  return (
    typeof value === 'string' ||
    Array.isArray(value) ||
    value instanceof Undefined ||
    value instanceof Range ||
    value instanceof Stream ||
    value instanceof Tuple ||
    value instanceof Dict ||
    value instanceof DictView
  );
}

/** `len(value)` of Python. */
export function lengthOf(value: Value, budget: Budget): number {
  budget.read(value);
  if (typeof value === 'string') return textLength(value);
  if (Array.isArray(value) || value instanceof Range) return value.length;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof DictView) return value.dict.size;
  if (value instanceof Undefined) return 0;
  throw new TemplateFault(`object of type '${typeName(value)}' has no len()`);
}

function known(value: Value, budget: Budget): readonly Value[] {
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') {
    budget.items(value.length);
    return characters(value);
  }
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict || value instanceof DictView) {
    const size = value instanceof Dict ? value.size : value.dict.size;
    budget.items(size);
    return value instanceof Dict ? value.keys() : value.items();
  }
  const kind = value instanceof PythonObject ? value.type : typeName(value);
  throw new TemplateFault(`'${kind}' object is not iterable`);
}
