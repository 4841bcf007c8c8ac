import { bind, integerOf, type Signature } from './arguments.ts';
import { TemplateFault } from './budget.ts';
import { DICT_METHODS, LIST_METHODS, NUMBER_METHODS, TUPLE_METHODS } from './container-methods.ts';
import { formatBraces } from './format-braces.ts';
import { STRING_METHODS } from './string-methods.ts';
import {
  Callable,
  characters,
  Dict,
  either,
  PythonObject,
  Range,
  type Runtime,
  Tuple,
  textLength,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** Methods that change a value: Jinja's immutable sandbox refuses them. */
const CHANGING: Readonly<Record<string, ReadonlySet<string>>> = {
  list: new Set(['append', 'clear', 'extend', 'insert', 'pop', 'remove', 'reverse', 'sort']),
  dict: new Set(['clear', 'pop', 'popitem', 'setdefault', 'update']),
};

/** A part of a list or text, as `start:stop:step` of a template. */
export class Slice {
  readonly start: Value;
  readonly stop: Value;
  readonly step: Value;

  constructor(start: Value, stop: Value, step: Value) {
    this.start = start;
    this.stop = stop;
    this.step = step;
  }
}

/** `object.name` of a template: an attribute, else an item. Source: Jinja 3.1 `sandbox.py`, `getattr`. */
export function getAttribute(object: Value, name: string, runtime: Runtime): Value {
  return either(either(attributeOf(object, name, runtime), itemOf(object, name)), missing(object, name));
}

/** `object[key]` of a template: an item, else an attribute. Source: Jinja 3.1 `sandbox.py`, `getitem`. */
export function getItem(object: Value, key: Value, runtime: Runtime): Value {
  runtime.budget.read(key);
  runtime.budget.read(object);
  if (object instanceof Undefined) throw new TemplateFault(object.message);
  const item = itemOf(object, key);
  if (item !== undefined) return item;
  const attribute = typeof key === 'string' ? attributeOf(object, key, runtime) : undefined;
  return either(attribute, missing(object, key));
}

export function getSlice(object: Value, slice: Slice, runtime: Runtime): Value {
  if (object instanceof Undefined) throw new TemplateFault(object.message);
  const { budget } = runtime;
  budget.read(object);
  if (typeof object === 'string') {
    const length = textLength(object);
    const [start, stop, step] = sliceBounds(slice, length);
    if (step === 1 && length === object.length) return object.slice(start, Math.max(start, stop));
    budget.items(length);
    const all = characters(object);
    return indices(start, stop, step)
      .map((i) => all[i])
      .join('');
  }
  if (Array.isArray(object) || object instanceof Tuple) {
    const all = Array.isArray(object) ? object : object.items;
    const [start, stop, step] = sliceBounds(slice, all.length);
    const items = indices(start, stop, step).map((i) => all[i] as Value);
    budget.items(items.length);
    return Array.isArray(object) ? items : new Tuple(items);
  }
  if (object instanceof Range) {
    const [start, stop, step] = sliceBounds(slice, object.length);
    const at = (index: number) => object.start + index * object.step;
    return new Range(at(start), at(stop), object.step * step);
  }
  return new Undefined(`${shown(object)} has no slices`);
}

function sliceBounds(slice: Slice, length: number): [start: number, stop: number, step: number] {
  const number = (value: Value): number | undefined =>
    value === null
      ? undefined
      : Math.max(-length - 1, Math.min(length, integerOf(value, 'slice indices must be integers or None')));
  const step = slice.step === null ? 1 : integerOf(slice.step, 'slice indices must be integers or None');
  if (step === 0) throw new TemplateFault('slice step cannot be zero');
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const clamp = (value: number | undefined, otherwise: number) => {
    if (value === undefined) return otherwise;
    return Math.max(lowest, Math.min(highest, value < 0 ? value + length : value));
  };
  const start = clamp(number(slice.start), step > 0 ? lowest : highest);
  return [start, clamp(number(slice.stop), step > 0 ? highest : lowest), step];
}

function indices(start: number, stop: number, step: number): number[] {
  const count = Math.max(0, Math.ceil((stop - start) / step));
  return Array.from({ length: count }, (_, i) => start + i * step);
}

function itemOf(object: Value, key: Value): Value | undefined {
  if (object instanceof Dict) return object.find(key);
  if (typeof key !== 'bigint' && typeof key !== 'boolean') return undefined;
  const index = Number(key);
  const pick = (length: number) => (index < 0 ? index + length : index);
  if (typeof object === 'string') {
    const length = textLength(object);
    return (length === object.length ? object : characters(object))[pick(length)];
  }
  if (Array.isArray(object)) return object[pick(object.length)];
  if (object instanceof Tuple) return object.items[pick(object.items.length)];
  if (!(object instanceof Range)) return undefined;
  const at = pick(object.length);
  return at >= 0 && at < object.length ? object.at(at) : undefined;
}

function attributeOf(object: Value, name: string, runtime: Runtime): Value | undefined {
  if (object instanceof Undefined) throw new TemplateFault(object.message);
  const kind = typeName(object);
  if (name.startsWith('_')) {
    return new Undefined(`access to attribute '${name}' of '${kind}' object is unsafe.`);
  }
  if (CHANGING[kind]?.has(name)) {
    return new Undefined(
      `access to attribute '${name}' of '${kind}' object is unsafe: a template cannot change its data.`,
    );
  }
  if (object instanceof Dict) return method(object, name, DICT_METHODS);
  if (object instanceof PythonObject) {
    if (object instanceof Tuple)
      return either(object.attribute(name, runtime), method(object, name, TUPLE_METHODS));
    return object.attribute(name, runtime);
  }
  if (typeof object === 'string') {
    if (name !== 'format') return method(object, name, STRING_METHODS);
    const lookup = { attribute: getAttribute, item: getItem };
    return new Callable(name, (args, inside) => {
      inside.budget.text(object.length);
      return formatBraces(object, args, lookup, inside);
    });
  }
  if (Array.isArray(object)) return method(object, name, LIST_METHODS);
  return object === null ? undefined : method(object, name, NUMBER_METHODS);
}

function method<Self extends Value>(
  self: Self,
  name: string,
  methods: Readonly<Record<string, Signature<Self>>>,
): Callable | undefined {
  if (!Object.hasOwn(methods, name)) return undefined;
  const [parameters, run] = methods[name] as Signature<Self>;
  return new Callable(name, (args, runtime) => {
    if (typeof self === 'string') runtime.budget.text(self.length);
    return run(self, bind(name, parameters, args), runtime);
  });
}

function missing(object: Value, key: Value): Undefined {
  if (object === null)
    return new Undefined(`None has no element ${typeof key === 'string' ? `'${key}'` : key}`);
  if (typeof key === 'string') return new Undefined(`'${shown(object)}' has no attribute '${key}'`);
  return new Undefined(`${shown(object)} has no element ${typeof key === 'object' ? typeName(key) : key}`);
}

function shown(value: Value): string {
  return `${typeName(value)} object`;
}
