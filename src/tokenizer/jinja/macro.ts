import type { MacroNode } from './ast.ts';
import { TemplateFault } from './budget.ts';
import { evaluate } from './evaluate.ts';
import { Scope } from './scope.ts';
import {
  type Arguments,
  Callable,
  Dict,
  either,
  type Runtime,
  Tuple,
  Undefined,
  type Value,
} from './values.ts';

/** A macro. Source: Jinja 3.1 `jinja2/runtime.py`, class `Macro`. */
export class Macro extends Callable {
  override readonly type = 'Macro';
  readonly #node: MacroNode;

  /** @param body renders the body with the variables that a call gave */
  constructor(node: MacroNode, scope: Scope, body: (scope: Scope) => string) {
    super(node.name, (args, runtime) => body(bindParameters(node, args, scope, runtime)));
    this.#node = node;
  }

  override attribute(name: string): Value | undefined {
    const { parameters, reads } = this.#node;
    if (name === 'name') return this.name;
    if (name === 'arguments') return new Tuple(parameters);
    if (name === 'caller') return reads.has('caller');
    if (name === 'catch_kwargs') return reads.has('kwargs');
    return name === 'catch_varargs' ? reads.has('varargs') : undefined;
  }
}

function bindParameters(node: MacroNode, args: Arguments, around: Scope, runtime: Runtime): Scope {
  const { name, parameters, defaults, reads } = node;
  const scope = new Scope(around);
  const named = new Map(args.named);
  const extra = args.positional.slice(parameters.length);
  if (extra.length > 0 && !reads.has('varargs')) {
    throw new TemplateFault(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
  }
  const firstDefault = parameters.length - defaults.length;
  parameters.forEach((parameter, i) => {
    const given = either(args.positional[i], named.get(parameter));
    if (args.positional[i] !== undefined && named.has(parameter)) {
      throw new TemplateFault(`macro '${name}' got multiple values for argument '${parameter}'`);
    }
    named.delete(parameter);
    const otherwise = defaults[i - firstDefault];
    if (given !== undefined) scope.set(parameter, given);
    else if (i >= firstDefault && otherwise !== undefined)
      scope.set(parameter, evaluate(otherwise, scope, runtime));
    else scope.set(parameter, new Undefined(`parameter '${parameter}' was not provided`));
  });
  if (reads.has('caller')) {
    scope.set('caller', either(named.get('caller'), new Undefined('No caller defined')));
    named.delete('caller');
  }
  if (reads.has('varargs')) scope.set('varargs', new Tuple(extra));
  if (reads.has('kwargs')) scope.set('kwargs', new Dict(named));
  else if (named.size > 0) {
    throw new TemplateFault(`macro '${name}' takes no keyword argument '${[...named.keys()][0]}'`);
  }
  return scope;
}
