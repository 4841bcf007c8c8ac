import type { BinaryOperator, Comparison } from './ast.ts';
import { type Budget, TemplateFault } from './budget.ts';
import { formatPercent } from './format-percent.ts';
import { iterate } from './iterate.ts';
import { toText } from './text.ts';
import { Dict, DictView, isSame, Range, Tuple, typeName, Undefined, type Value } from './values.ts';

// As Python prints at most; a number that grows further is no part of a prompt.
const LARGEST_INTEGER = 10n ** 4300n;

/** `left operator right`, as Python computes it. */
export function binary(operator: BinaryOperator, left: Value, right: Value, budget: Budget): Value {
  refuseUndefined(left, right);
  const [a, b] = [asNumber(left), asNumber(right)];
  if (operator === '%' && typeof left === 'string') return formatPercent(left, right, budget);
  if (a !== undefined && b !== undefined) {
    return typeof a === 'bigint' && typeof b === 'bigint'
      ? integers(operator, a, b)
      : floats(operator, Number(a), Number(b));
  }
  if (operator === '+') return concatenate(left, right, budget);
  if (operator === '*' && typeof a === 'bigint') return repeat(right, a, budget, left);
  if (operator === '*' && typeof b === 'bigint') return repeat(left, b, budget, right);
  throw unsupported(operator === '**' ? '** or pow()' : operator, left, right);
}

function integers(operator: BinaryOperator, a: bigint, b: bigint): Value {
  switch (operator) {
    case '+':
      return bounded(a + b);
    case '-':
      return bounded(a - b);
    case '*':
      return bounded(a * b);
    case '/':
      if (b === 0n) throw new TemplateFault('division by zero');
      return Number(a) / Number(b);
    case '//':
    case '%': {
      if (b === 0n) throw new TemplateFault('integer division or modulo by zero');
      const remainder = a % b;
      const wraps = remainder !== 0n && remainder < 0n !== b < 0n;
      if (operator === '%') return wraps ? remainder + b : remainder;
      return wraps ? a / b - 1n : a / b;
    }
    default:
      return power(a, b);
  }
}

function power(a: bigint, b: bigint): Value {
  if (b < 0n) return floats('**', Number(a), Number(b));
  if (a !== 0n && a !== 1n && a !== -1n && b * BigInt(a.toString(16).length) > 16_384n) throw tooLarge();
  return bounded(a ** b);
}

function floats(operator: BinaryOperator, a: number, b: number): Value {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '**':
      if (a === 0 && b < 0) throw new TemplateFault('0.0 cannot be raised to a negative power');
      return a ** b;
    default: {
      if (b === 0) throw new TemplateFault(operator === '/' ? 'float division by zero' : 'float modulo');
      if (operator === '/') return a / b;
      const remainder = a % b;
      const modulo = remainder !== 0 && remainder < 0 !== b < 0 ? remainder + b : remainder;
      return operator === '%' ? modulo : Math.round((a - modulo) / b);
    }
  }
}

function concatenate(left: Value, right: Value, budget: Budget): Value {
  if (typeof left === 'string' && typeof right === 'string') return budget.join(left, right);
  if (Array.isArray(left) && Array.isArray(right)) {
    budget.items(left.length + right.length);
    return [...left, ...right];
  }
  if (left instanceof Tuple && right instanceof Tuple) {
    budget.items(left.items.length + right.items.length);
    return new Tuple([...left.items, ...right.items]);
  }
  const kind = typeName(left);
  if (typeof left === 'string') {
    throw new TemplateFault(`can only concatenate str (not "${typeName(right)}") to str`);
  }
  if (Array.isArray(left) || left instanceof Tuple) {
    throw new TemplateFault(`can only concatenate ${kind} (not "${typeName(right)}") to ${kind}`);
  }
  throw unsupported('+', left, right);
}

function repeat(value: Value, times: bigint, budget: Budget, other: Value): Value {
  const count = Number(times > 0n ? times : 0n);
  if (typeof value === 'string') {
    budget.text(value.length * count);
    return value.repeat(value === '' ? 0 : count);
  }
  if (!Array.isArray(value) && !(value instanceof Tuple)) throw unsupported('*', value, other);
  const items = Array.isArray(value) ? value : value.items;
  budget.items(items.length * count);
  const repeated = items.length === 0 ? [] : Array.from({ length: count }, () => items).flat();
  return Array.isArray(value) ? repeated : new Tuple(repeated);
}

export function negate(value: Value): Value {
  refuseUndefined(value);
  const number = asNumber(value);
  if (number === undefined) throw new TemplateFault(`bad operand type for unary -: '${typeName(value)}'`);
  return -number;
}

export function positive(value: Value): Value {
  refuseUndefined(value);
  const number = asNumber(value);
  if (number === undefined) throw new TemplateFault(`bad operand type for unary +: '${typeName(value)}'`);
  return number;
}

/** `a ~ b`: both as text. */
export function joinTexts(values: readonly Value[], budget: Budget): string {
  return values.reduce<string>((joined, value) => budget.join(joined, toText(value, budget)), '');
}

export function compare(operator: Comparison, left: Value, right: Value, budget: Budget): boolean {
  switch (operator) {
    case '==':
      return isEqual(left, right, budget);
    case '!=':
      return !isEqual(left, right, budget);
    case 'in':
      return contains(right, left, budget);
    case 'not in':
      return !contains(right, left, budget);
    case '<':
      return isLess(left, right, budget, '<');
    case '>':
      return isLess(right, left, budget, '>');
    case '<=':
      return isLess(left, right, budget, '<=') || isEqual(left, right, budget);
    default:
      return isLess(right, left, budget, '>=') || isEqual(left, right, budget);
  }
}

export function isEqual(left: Value, right: Value, budget: Budget): boolean {
  budget.step();
  if (typeof left === 'string' && typeof right === 'string' && left.length === right.length)
    budget.read(left);
  if (isSame(left, right)) return !(typeof left === 'number' && Number.isNaN(left));
  const [a, b] = [asNumber(left), asNumber(right)];
  // biome-ignore lint/suspicious/noDoubleEquals: an int and a float are compared by value.
  if (a !== undefined && b !== undefined) return a == b;
  if (Array.isArray(left) && Array.isArray(right)) return areEqual(left, right, budget);
  if (left instanceof Tuple && right instanceof Tuple) return areEqual(left.items, right.items, budget);
  if (left instanceof Range && right instanceof Range) {
    return areEqual([...iterate(left, budget)], [...iterate(right, budget)], budget);
  }
  if (left instanceof Dict && right instanceof Dict) {
    return (
      left.size === right.size &&
      left.entries().every(([key, value]) => {
        const other = right.get(key);
        return other !== undefined && isEqual(value, other, budget);
      })
    );
  }
  return false;
}

function areEqual(left: readonly Value[], right: readonly Value[], budget: Budget): boolean {
  return left.length === right.length && left.every((item, i) => isEqual(item, right[i] as Value, budget));
}

/** `left < right`; `shown` is the operator of the template, for the message. */
export function isLess(left: Value, right: Value, budget: Budget, shown = '<'): boolean {
  budget.step();
  refuseUndefined(left, right);
  const [a, b] = [asNumber(left), asNumber(right)];
  if (a !== undefined && b !== undefined) return a < b;
  if (typeof left === 'string' && typeof right === 'string') {
    budget.read(left);
    budget.read(right);
    return isTextLess(left, right);
  }
  if (Array.isArray(left) && Array.isArray(right)) return isListLess(left, right, budget, shown);
  if (left instanceof Tuple && right instanceof Tuple)
    return isListLess(left.items, right.items, budget, shown);
  const [first, second] = shown.startsWith('>') ? [right, left] : [left, right];
  throw new TemplateFault(
    `'${shown}' not supported between instances of '${typeName(first)}' and '${typeName(second)}'`,
  );
}

function isListLess(left: readonly Value[], right: readonly Value[], budget: Budget, shown: string): boolean {
  const at = left.findIndex((item, i) => i >= right.length || !isEqual(item, right[i] as Value, budget));
  if (at === -1) return left.length < right.length;
  return at < right.length && isLess(left[at] as Value, right[at] as Value, budget, shown);
}

/** By code point, where `<` of JavaScript goes by half of a surrogate pair. */
function isTextLess(left: string, right: string): boolean {
  let i = 0;
  while (i < left.length && i < right.length && left.charCodeAt(i) === right.charCodeAt(i)) i++;
  if (i >= left.length || i >= right.length) return left.length < right.length;
  const isPair = (text: string) => (text.charCodeAt(i) & 0xf800) === 0xd800;
  if (isPair(left) !== isPair(right)) return isPair(right);
  return left.charCodeAt(i) < right.charCodeAt(i);
}

/** `item in container` */
function contains(container: Value, item: Value, budget: Budget): boolean {
  budget.read(item);
  budget.step();
  if (typeof container === 'string') {
    if (typeof item !== 'string') {
      refuseUndefined(item);
      throw new TemplateFault(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    budget.text(container.length);
    return container.includes(item);
  }
  if (container instanceof Dict) return container.get(item) !== undefined;
  if (container instanceof DictView && container.kind === 'keys')
    return container.dict.get(item) !== undefined;
  if (container === null || asNumber(container) !== undefined) {
    throw new TemplateFault(`argument of type '${typeName(container)}' is not iterable`);
  }
  for (const candidate of iterate(container, budget)) {
    if (isEqual(candidate, item, budget)) return true;
  }
  return false;
}

/** The number that a value is in arithmetic, where True is 1; undefined where it is none. */
export function asNumber(value: Value): bigint | number | undefined {
  if (typeof value === 'bigint' || typeof value === 'number') return value;
  return typeof value === 'boolean' ? BigInt(value) : undefined;
}

export function refuseUndefined(...values: readonly Value[]): void {
  for (const value of values) if (value instanceof Undefined) throw new TemplateFault(value.message);
}

function bounded(value: bigint): bigint {
  if (value > LARGEST_INTEGER || value < -LARGEST_INTEGER) throw tooLarge();
  return value;
}

function tooLarge(): TemplateFault {
  return new TemplateFault('it makes a number of more than 4300 digits');
}

function unsupported(operator: string, left: Value, right: Value): TemplateFault {
  return new TemplateFault(
    `unsupported operand type(s) for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}
