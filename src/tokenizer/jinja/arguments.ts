import { TemplateFault } from './budget.ts';
import { refuseUndefined } from './operators.ts';
import { type Arguments, isTrue, type Runtime, typeName, type Value } from './values.ts';

/** Arguments of a function of Python, in order of its parameters; one that was not given is undefined. */
export type Bound = readonly (Value | undefined)[];

/** A function of Python: its parameters, `?` after those that may be left out, and what it does. */
export type Signature<Self> = readonly [
  parameters: string,
  run: (self: Self, args: Bound, runtime: Runtime) => Value,
];

/** Brings arguments in the order of `parameters` (`'old new count?'`). */
export function bind(name: string, parameters: string, args: Arguments): Bound {
  const names = parameters === '' ? [] : parameters.split(' ');
  if (args.positional.length > names.length) {
    throw new TemplateFault(
      `${name}() takes at most ${names.length} arguments (${args.positional.length} given)`,
    );
  }
  const bound: (Value | undefined)[] = [...args.positional];
  for (const [key, value] of args.named) {
    const at = names.findIndex((parameter) => parameter.replace('?', '') === key);
    if (at === -1) throw new TemplateFault(`${name}() got an unexpected keyword argument '${key}'`);
    if (bound[at] !== undefined)
      throw new TemplateFault(`${name}() got multiple values for argument '${key}'`);
    bound[at] = value;
  }
  names.forEach((parameter, at) => {
    if (bound[at] === undefined && !parameter.endsWith('?')) {
      throw new TemplateFault(`${name}() missing required argument '${parameter}' (pos ${at + 1})`);
    }
  });
  return bound;
}

export function textOf(value: Value | undefined, what: string): string {
  if (typeof value === 'string') return value;
  if (value !== undefined) refuseUndefined(value);
  throw new TemplateFault(`${what} must be str, not ${typeName(value ?? null)}`);
}

/** An integer argument, or `otherwise` where it was not given. */
export function integerOf(value: Value | undefined, what: string, otherwise = 0): number {
  if (value === undefined) return otherwise;
  if (typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
  refuseUndefined(value);
  throw new TemplateFault(`${what}: '${typeName(value)}' object cannot be interpreted as an integer`);
}

export function flagOf(value: Value | undefined, otherwise = false): boolean {
  return value === undefined ? otherwise : isTrue(value);
}
