import { expected, InputError } from '../../errors.ts';
import { Budget } from './budget.ts';
import { Dict, type Value } from './values.ts';

const DEEPEST_DATA = 100;

/**
 * Turns the variables of a template into values: whole numbers into ints, other ones into floats. Fields that are
 * `undefined` are left out.
 *
 * @throws {InputError} a variable holds something that JSON has not (functions, class instances, cycles).
 */
export function templateData(variables: Readonly<Record<string, unknown>>): {
  values: [string, Value][];
  budget: Budget;
} {
  const reader = new Reader();
  const values = Object.entries(variables)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]): [string, Value] => [name, reader.read(value, name, 0)]);
  return { values, budget: new Budget(reader) };
}

class Reader {
  characters = 0;
  items = 0;

  read(value: unknown, path: string, depth: number): Value {
    this.items++;
    if (value === undefined || value === null) return null;
    if (typeof value === 'boolean') return value;
    if (typeof value === 'string') {
      this.characters += value.length;
      return value;
    }
    if (typeof value === 'number' && Number.isFinite(value)) {
      return Number.isInteger(value) && !Object.is(value, -0) ? BigInt(value) : value;
    }
    if (typeof value === 'bigint') return value;
    if (depth > DEEPEST_DATA)
      throw new InputError(`${path} is nested more than ${DEEPEST_DATA} levels deep.`);
    if (Array.isArray(value)) return value.map((item, i) => this.read(item, `${path}[${i}]`, depth + 1));
    if (isPlainObject(value)) {
      const fields = Object.entries(value).filter(([, field]) => field !== undefined);
      return new Dict(fields.map(([key, field]) => [key, this.read(field, `${path}.${key}`, depth + 1)]));
    }
    throw new InputError(expected(path, value, 'plain data for the chat template, as in JSON'));
  }
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Another realm's Object.prototype (a worker's or a test runner's) has no prototype either.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
