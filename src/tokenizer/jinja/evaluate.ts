import { getAttribute, getItem, getSlice, Slice } from './access.ts';
import type { CallArguments, Expression } from './ast.ts';
import { TemplateFault } from './budget.ts';
import { iterate } from './iterate.ts';
import { binary, compare, joinTexts, negate, positive } from './operators.ts';
import type { Scope } from './scope.ts';
import { toText } from './text.ts';
import {
  type Arguments,
  Dict,
  isTrue,
  type Runtime,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** The value of an expression. */
export function evaluate(node: Expression, scope: Scope, runtime: Runtime): Value {
  const { budget } = runtime;
  budget.step();
  const value = (inner: Expression) => evaluate(inner, scope, runtime);
  switch (node.type) {
    case 'constant':
      return node.value;
    case 'name':
      return scope.get(node.name);
    case 'list':
      budget.items(node.items.length);
      return node.items.map(value);
    case 'tuple':
      budget.items(node.items.length);
      return new Tuple(node.items.map(value));
    case 'dict':
      budget.items(node.entries.length);
      return new Dict(
        node.entries.map(([key, item]) => {
          const name = value(key);
          budget.read(name);
          return [name, value(item)];
        }),
      );
    case 'attribute':
      return getAttribute(value(node.object), node.name, runtime);
    case 'item':
      if (node.key.type === 'slice') return getSlice(value(node.object), sliceOf(node.key, value), runtime);
      return getItem(value(node.object), value(node.key), runtime);
    case 'call':
      return runtime.call(value(node.callee), argumentsOf(node.args, scope, runtime));
    case 'filter':
      if (node.operand === undefined)
        throw new TemplateFault(`the filter ${node.name} has nothing to work on`);
      return runtime.filter(node.name, value(node.operand), argumentsOf(node.args, scope, runtime));
    case 'test':
      return runtime.test(node.name, value(node.operand), argumentsOf(node.args, scope, runtime));
    case 'not':
      return !isTrue(value(node.operand));
    case 'negative':
      return negate(value(node.operand));
    case 'positive':
      return positive(value(node.operand));
    case 'binary':
      return binary(node.operator, value(node.left), value(node.right), budget);
    case 'concat':
      return joinTexts(node.parts.map(value), budget);
    case 'and': {
      const left = value(node.left);
      return isTrue(left) ? value(node.right) : left;
    }
    case 'or': {
      const left = value(node.left);
      return isTrue(left) ? left : value(node.right);
    }
    case 'compare':
      return comparison(node, value, runtime);
    case 'condition':
      if (isTrue(value(node.test))) return value(node.yes);
      if (node.no !== undefined) return value(node.no);
      return new Undefined('the inline if-expression evaluated to false and no else section was defined.');
    case 'slice':
      throw new TemplateFault('a slice stands between [ and ] only');
  }
}

function comparison(
  { first, rest }: Extract<Expression, { type: 'compare' }>,
  value: (node: Expression) => Value,
  { budget }: Runtime,
): boolean {
  let left = value(first);
  for (const [operator, node] of rest) {
    const right = value(node);
    if (!compare(operator, left, right, budget)) return false;
    left = right;
  }
  return true;
}

function sliceOf(node: Extract<Expression, { type: 'slice' }>, value: (node: Expression) => Value): Slice {
  const part = (inner: Expression | undefined) => (inner === undefined ? null : value(inner));
  return new Slice(part(node.start), part(node.stop), part(node.step));
}

export function argumentsOf(node: CallArguments, scope: Scope, runtime: Runtime): Arguments {
  const positional = node.positional.map((inner) => evaluate(inner, scope, runtime));
  const named = new Map(node.named.map(([name, inner]) => [name, evaluate(inner, scope, runtime)]));
  if (node.list !== undefined)
    for (const item of iterate(evaluate(node.list, scope, runtime), runtime.budget)) positional.push(item);
  if (node.dict !== undefined) {
    const further = evaluate(node.dict, scope, runtime);
    if (!(further instanceof Dict)) {
      throw new TemplateFault(`argument after ** must be a mapping, not ${typeName(further)}`);
    }
    for (const [key, item] of further.entries()) named.set(toText(key, runtime.budget), item);
  }
  return { positional, named };
}
