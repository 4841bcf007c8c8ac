import { bind, type Signature } from './arguments.ts';
import type { Comparison } from './ast.ts';
import { TemplateFault } from './budget.ts';
import { isFilter } from './filters.ts';
import { isIterable } from './iterate.ts';
import { binary, compare } from './operators.ts';
import { STRING_METHODS } from './string-methods.ts';
import { toText } from './text.ts';
import {
  type Arguments,
  Callable,
  Dict,
  isSame,
  isTrue,
  Range,
  type Runtime,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

type Test = Signature<Value>;

const ofType = (...types: readonly string[]): Test => ['', (value) => types.includes(typeName(value))];
const comparison = (operator: Comparison): Test => [
  'other',
  (value, [other], { budget }) => compare(operator, value, other as Value, budget),
];
const remainder = (value: Value, divisor: Value, runtime: Runtime) =>
  binary('%', value, divisor, runtime.budget);
const letters = (name: 'islower' | 'isupper'): Test => [
  '',
  (value, args, runtime) =>
    (STRING_METHODS[name] as Signature<string>)[1](toText(value, runtime.budget), args, runtime),
];

/** Source: Jinja 3.1 `jinja2/tests.py`. */
const TESTS: Readonly<Record<string, Test>> = {
  defined: ['', (value) => !(value instanceof Undefined)],
  undefined: ofType('Undefined'),
  none: ['', (value) => value === null],
  boolean: ofType('bool'),
  true: ['', (value) => value === true],
  false: ['', (value) => value === false],
  integer: ofType('int'),
  float: ofType('float'),
  number: ofType('int', 'float', 'bool'),
  string: ofType('str'),
  mapping: ['', (value) => value instanceof Dict],
  sequence: [
    '',
    (value) =>
      typeof value === 'string' ||
      Array.isArray(value) ||
      value instanceof Tuple ||
      value instanceof Dict ||
      value instanceof Range ||
      value instanceof Undefined,
  ],
  iterable: ['', (value) => isIterable(value)],
  callable: ['', (value) => value instanceof Callable || value instanceof Undefined],
  sameas: ['other', (value, [other]) => isSame(value, other as Value)],
  escaped: ['', () => false],
  lower: letters('islower'),
  upper: letters('isupper'),
  odd: ['', (value, _args, runtime) => Number(remainder(value, 2n, runtime)) === 1],
  even: ['', (value, _args, runtime) => Number(remainder(value, 2n, runtime)) === 0],
  divisibleby: ['num', (value, [num], runtime) => Number(remainder(value, num as Value, runtime)) === 0],
  filter: ['', (value) => typeof value === 'string' && isFilter(value)],
  test: ['', (value) => typeof value === 'string' && Object.hasOwn(TESTS, value)],
  in: comparison('in'),
  '==': comparison('=='),
  eq: comparison('=='),
  equalto: comparison('=='),
  '!=': comparison('!='),
  ne: comparison('!='),
  '>': comparison('>'),
  gt: comparison('>'),
  greaterthan: comparison('>'),
  '>=': comparison('>='),
  ge: comparison('>='),
  '<': comparison('<'),
  lt: comparison('<'),
  lessthan: comparison('<'),
  '<=': comparison('<='),
  le: comparison('<='),
};

export function applyTest(name: string, value: Value, args: Arguments, runtime: Runtime): boolean {
  if (!Object.hasOwn(TESTS, name)) throw new TemplateFault(`No test named '${name}'.`);
  const [parameters, run] = TESTS[name] as Test;
  return isTrue(run(value, bind(name, parameters, args), runtime));
}
