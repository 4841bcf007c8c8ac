import type { Budget } from './budget.ts';
import { TemplateFault } from './budget.ts';

/**
 * A value of a template, as Python would hold it: `null` is None, a bigint an int, a number a float, an array a list.
 * Everything else is a `PythonObject`.
 */
export type Value = null | boolean | bigint | number | string | Value[] | PythonObject;

/** Arguments of a call: those by position, then those by name. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

/** What functions, filters and methods need of the rendering that calls them. */
export interface Runtime {
  readonly budget: Budget;
  call(callee: Value, args: Arguments): Value;
  filter(name: string, operand: Value, args: Arguments): Value;
  test(name: string, operand: Value, args: Arguments): boolean;
}

export abstract class PythonObject {
  /** Name of the type, as in Python's messages. */
  abstract readonly type: string;

  /** An attribute that a template may read, or undefined. */
  attribute(_name: string, _runtime: Runtime): Value | undefined {
    return undefined;
  }
}

/** A name, attribute or item that does not exist. It prints as nothing; most other uses raise `message`. */
export class Undefined extends PythonObject {
  override readonly type = 'Undefined';
  readonly message: string;

  constructor(message: string) {
    super();
    this.message = message;
  }
}

export class Tuple extends PythonObject {
  override readonly type = 'tuple';
  readonly items: readonly Value[];

  constructor(items: readonly Value[]) {
    super();
    this.items = items;
  }
}

/** A dict, in order of insertion; keys that are equal in Python (1, 1.0, True) are one. */
export class Dict extends PythonObject {
  override readonly type = 'dict';
  readonly #entries = new Map<string, readonly [Value, Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    super();
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** @throws {TemplateFault} a list or dict is no key. */
  get(key: Value): Value | undefined {
    return this.#entries.get(hashKey(key))?.[1];
  }

  /** As `get`, but what is no key is not found. */
  find(key: Value): Value | undefined {
    return isHashable(key, { left: MOST_KEY_PARTS }) ? this.get(key) : undefined;
  }

  set(key: Value, value: Value): void {
    const hash = hashKey(key);
    this.#entries.set(hash, [this.#entries.get(hash)?.[0] ?? key, value]);
  }

  keys(): Value[] {
    return [...this.#entries.values()].map(([key]) => key);
  }

  values(): Value[] {
    return [...this.#entries.values()].map(([, value]) => value);
  }

  entries(): (readonly [Value, Value])[] {
    return [...this.#entries.values()];
  }
}

/** `keys()`, `values()` or `items()` of a dict. */
export class DictView extends PythonObject {
  override readonly type: string;
  readonly kind: 'keys' | 'values' | 'items';
  readonly dict: Dict;

  constructor(kind: 'keys' | 'values' | 'items', dict: Dict) {
    super();
    this.type = `dict_${kind}`;
    this.kind = kind;
    this.dict = dict;
  }

  items(): Value[] {
    if (this.kind === 'keys') return this.dict.keys();
    if (this.kind === 'values') return this.dict.values();
    return this.dict.entries().map((entry) => new Tuple(entry));
  }
}

export class Range extends PythonObject {
  override readonly type = 'range';
  readonly start: number;
  readonly stop: number;
  readonly step: number;
  readonly length: number;

  constructor(start: number, stop: number, step: number) {
    super();
    this.start = start;
    this.stop = stop;
    this.step = step;
    this.length = Math.max(0, Math.ceil((stop - start) / step));
  }

  at(index: number): bigint {
    return BigInt(this.start + index * this.step);
  }
}

/** A generator: its values can be had once. */
export class Stream extends PythonObject {
  override readonly type = 'generator';
  readonly values: Iterator<Value>;

  constructor(values: Iterator<Value>) {
    super();
    this.values = values;
  }
}

/** Something that can be called. */
export class Callable extends PythonObject {
  override readonly type: string = 'function';
  readonly name: string;
  readonly invoke: (args: Arguments, runtime: Runtime) => Value;

  constructor(name: string, invoke: (args: Arguments, runtime: Runtime) => Value) {
    super();
    this.name = name;
    this.invoke = invoke;
  }
}

/** The result of `namespace(…)`, the one thing whose attributes a template may set. */
export class Namespace extends PythonObject {
  override readonly type = 'Namespace';
  readonly fields = new Map<string, Value>();

  override attribute(name: string): Value | undefined {
    return this.fields.get(name);
  }
}

/** The first of two that there is; `??` would also pass over None, which is a value. */
export function either<T>(value: Value | undefined, otherwise: T): Value | T {
  return value === undefined ? otherwise : value;
}

/** Name of a value's type, as in Python's messages. */
export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'float';
  if (typeof value === 'string') return 'str';
  return Array.isArray(value) ? 'list' : value.type;
}

export function isTrue(value: Value): boolean {
  if (value === null || value instanceof Undefined) return false;
  if (typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return value !== 0n;
  if (typeof value === 'number') return value !== 0;
  if (typeof value === 'string' || Array.isArray(value) || value instanceof Range) return value.length > 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof DictView) return value.dict.size > 0;
  return true;
}

/** Whether two values are one object, as `is` in Python. */
export function isSame(a: Value, b: Value): boolean {
  return a === b || (a instanceof Undefined && b instanceof Undefined);
}

// Keys that are no strings begin with a character that strings do not begin with unmarked.
const MARK = '\0';

// Tuples may share parts, so that looking through one of few lines takes for ever.
const MOST_KEY_PARTS = 1_000;

function isHashable(key: Value, room: { left: number }): boolean {
  checkRoom(room);
  if (key instanceof Tuple) return key.items.every((item) => isHashable(item, room));
  return !Array.isArray(key) && (!(key instanceof PythonObject) || key instanceof Undefined);
}

function checkRoom(room: { left: number }): void {
  if (--room.left < 0) throw new TemplateFault(`a key has more than ${MOST_KEY_PARTS} parts`);
}

function hashKey(key: Value, room: { left: number } = { left: MOST_KEY_PARTS }): string {
  checkRoom(room);
  if (typeof key === 'string') return key.startsWith(MARK) ? `${MARK}s${key}` : key;
  if (key === null) return `${MARK}None`;
  if (typeof key === 'boolean') return `${MARK}n${Number(key)}`;
  if (typeof key === 'bigint') return `${MARK}n${key}`;
  if (typeof key === 'number') return Number.isInteger(key) ? `${MARK}n${BigInt(key)}` : `${MARK}f${key}`;
  if (key instanceof Undefined) return `${MARK}undefined`;
  if (key instanceof Tuple) {
    const parts = key.items.map((item) => hashKey(item, room));
    return `${MARK}t${parts.map((part) => `${part.length}:${part}`).join('')}`;
  }
  throw new TemplateFault(`unhashable type: '${typeName(key)}'`);
}

const SURROGATES = /[\ud800-\udfff]/;

/** The characters of a text as Python counts them: one per code point. */
export function characters(text: string): string[] {
  return SURROGATES.test(text) ? Array.from(text) : text.split('');
}

/** Length of a text as Python counts it. */
export function textLength(text: string): number {
  if (!SURROGATES.test(text)) return text.length;
  let pairs = 0;
  for (let i = 0; i + 1 < text.length; i++) {
    if ((text.charCodeAt(i) & 0xfc00) !== 0xd800 || (text.charCodeAt(i + 1) & 0xfc00) !== 0xdc00) continue;
    pairs++;
    i++;
  }
  return text.length - pairs;
}

/** White space as Python's `str.isspace` and `strip` see it, for a class of a regular expression. */
export const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
