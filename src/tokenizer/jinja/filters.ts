import { bind, type Signature } from './arguments.ts';
import { TemplateFault } from './budget.ts';
import { HIGHER_FILTERS, LIST_FILTERS } from './list-filters.ts';
import { formatFilter, TEXT_FILTERS } from './text-filters.ts';
import { VALUE_FILTERS } from './value-filters.ts';
import type { Arguments, Runtime, Value } from './values.ts';

const BOUND: Readonly<Record<string, Signature<Value>>> = {
  ...LIST_FILTERS,
  ...TEXT_FILTERS,
  ...VALUE_FILTERS,
};
const FREE: Readonly<Record<string, (value: Value, args: Arguments, runtime: Runtime) => Value>> = {
  ...HIGHER_FILTERS,
  format: formatFilter,
};

export function isFilter(name: string): boolean {
  return Object.hasOwn(BOUND, name) || Object.hasOwn(FREE, name);
}

export function applyFilter(name: string, value: Value, args: Arguments, runtime: Runtime): Value {
  if (Object.hasOwn(FREE, name)) return (FREE[name] as (typeof FREE)[string])(value, args, runtime);
  if (!Object.hasOwn(BOUND, name)) throw new TemplateFault(`No filter named '${name}'.`);
  const [parameters, run] = BOUND[name] as Signature<Value>;
  return run(value, bind(name, parameters, args), runtime);
}
