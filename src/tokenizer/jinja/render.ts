import type { Expression, MacroNode, Statement, Target } from './ast.ts';
import { type Budget, TemplateFault } from './budget.ts';
import { argumentsOf, evaluate } from './evaluate.ts';
import { applyFilter } from './filters.ts';
import { iterate, toList } from './iterate.ts';
import { Loop } from './loop.ts';
import { Macro } from './macro.ts';
import { Scope } from './scope.ts';
import { applyTest } from './tests.ts';
import { toText } from './text.ts';
import {
  type Arguments,
  Callable,
  isTrue,
  Namespace,
  type Runtime,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** Why a body ended before its last statement. */
type Jump = 'break' | 'continue' | undefined;

/**
 * Renders a parsed template.
 *
 * @param variables what the template may read
 * @throws {TemplateFault} the template raises an error, or exceeds the budget.
 */
export function render(
  template: readonly Statement[],
  variables: Iterable<[string, Value]>,
  budget: Budget,
): string {
  const root = new Scope();
  for (const [name, value] of variables) root.set(name, value);
  const out = new Output(budget);
  new Renderer(budget, root).run(template, root, out);
  return out.text();
}

class Output {
  readonly #parts: string[] = [];
  readonly #budget: Budget;
  #length = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  write(text: string): void {
    this.#budget.text(text.length);
    this.#length += text.length;
    this.#parts.push(text);
  }

  text(): string {
    this.#budget.text(this.#length);
    return this.#parts.join('');
  }
}

class Renderer implements Runtime {
  readonly budget: Budget;
  readonly #root: Scope;

  constructor(budget: Budget, root: Scope) {
    this.budget = budget;
    this.#root = root;
  }

  call(callee: Value, args: Arguments): Value {
    this.budget.step();
    if (callee instanceof Callable) return callee.invoke(args, this);
    if (callee instanceof Undefined) throw new TemplateFault(callee.message);
    throw new TemplateFault(`'${typeName(callee)}' object is not callable`);
  }

  filter(name: string, operand: Value, args: Arguments): Value {
    this.budget.step();
    return applyFilter(name, operand, args, this);
  }

  test(name: string, operand: Value, args: Arguments): boolean {
    this.budget.step();
    return applyTest(name, operand, args, this);
  }

  run(body: readonly Statement[], scope: Scope, out: Output): Jump {
    for (const statement of body) {
      this.budget.step();
      const jump = this.#statement(statement, scope, out);
      if (jump !== undefined) return jump;
    }
    return undefined;
  }

  #statement(node: Statement, scope: Scope, out: Output): Jump {
    switch (node.type) {
      case 'text':
        out.write(node.text);
        return undefined;
      case 'print':
        out.write(toText(evaluate(node.value, scope, this), this.budget));
        return undefined;
      case 'if':
        for (const [test, body] of node.branches) {
          if (isTrue(evaluate(test, scope, this))) return this.run(body, scope, out);
        }
        return this.run(node.otherwise, scope, out);
      case 'for':
        return this.#for(node, scope, out);
      case 'set':
        this.#assign(node.target, evaluate(node.value, scope, this), scope);
        return undefined;
      case 'set block': {
        const text = this.#capture(node.body, new Scope(scope));
        this.#assign(
          node.target,
          node.filter === undefined ? text : this.#filtered(node.filter, text, scope),
          scope,
        );
        return undefined;
      }
      case 'macro':
        scope.set(node.macro.name, this.#macro(node.macro, scope));
        return undefined;
      case 'call block':
        out.write(toText(this.#callBlock(node, scope), this.budget));
        return undefined;
      case 'filter block':
        out.write(
          toText(this.#filtered(node.filter, this.#capture(node.body, new Scope(scope)), scope), this.budget),
        );
        return undefined;
      case 'with': {
        const inner = new Scope(scope);
        for (const [target, value] of node.targets) this.#assign(target, evaluate(value, scope, this), inner);
        return this.run(node.body, inner, out);
      }
      case 'scope':
        return this.run(node.body, new Scope(scope), out);
      case 'block':
        return this.run(node.body, new Scope(this.#root), out);
      default:
        return node.type;
    }
  }

  #for(node: Extract<Statement, { type: 'for' }>, scope: Scope, out: Output): undefined {
    const go = (iterable: Value, into: Output, level: number): void => {
      const items = this.#loopItems(node, iterable, scope);
      const recurse = (inner: Value) => {
        const captured = new Output(this.budget);
        go(inner, captured, level + 1);
        return captured.text();
      };
      const loop = new Loop(items, level, node.recursive ? recurse : undefined);
      let isElse = true;
      for (const item of items) {
        const inner = new Scope(scope);
        inner.set('loop', loop);
        this.#assign(node.target, item, inner);
        const jump = this.run(node.body, inner, into);
        loop.index++;
        if (jump === 'break') break;
        // As compiled by Jinja: only a pass that reaches the end of the body keeps `else` from running.
        if (jump === undefined) isElse = false;
      }
      if (isElse) this.run(node.otherwise, new Scope(scope), into);
    };
    go(evaluate(node.iterable, scope, this), out, 0);
    return undefined;
  }

  #loopItems(node: Extract<Statement, { type: 'for' }>, iterable: Value, scope: Scope): Value[] {
    const { filter, target } = node;
    if (filter === undefined) return toList(iterable, this.budget);
    const kept: Value[] = [];
    for (const item of iterate(iterable, this.budget)) {
      const inner = new Scope(scope);
      this.#assign(target, item, inner);
      if (isTrue(evaluate(filter, inner, this))) kept.push(item);
    }
    this.budget.items(kept.length);
    return kept;
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (target.type === 'name') scope.set(target.name, value);
    else if (target.type === 'field') {
      const object = scope.get(target.object);
      if (!(object instanceof Namespace))
        throw new TemplateFault('cannot assign attribute on non-namespace object');
      object.fields.set(target.name, value);
    } else {
      const items = toList(value, this.budget);
      const wanted = target.items.length;
      if (items.length !== wanted) {
        const few = items.length < wanted;
        throw new TemplateFault(
          `${few ? 'not enough' : 'too many'} values to unpack (expected ${wanted}, got ${items.length})`,
        );
      }
      target.items.forEach((inner, i) => {
        this.#assign(inner, items[i] as Value, scope);
      });
    }
  }

  #capture(body: readonly Statement[], scope: Scope): string {
    const out = new Output(this.budget);
    this.run(body, scope, out);
    return out.text();
  }

  /** Applies the filters of a block, of which the innermost has no operand, to its text. */
  #filtered(filter: Expression, text: string, scope: Scope): Value {
    if (filter.type !== 'filter') return text;
    const operand = filter.operand === undefined ? text : this.#filtered(filter.operand, text, scope);
    return this.filter(filter.name, operand, argumentsOf(filter.args, scope, this));
  }

  #macro(node: MacroNode, scope: Scope): Macro {
    return new Macro(node, scope, (inner) => this.#capture(node.body, inner));
  }

  #callBlock({ call, caller }: Extract<Statement, { type: 'call block' }>, scope: Scope): Value {
    if (call.type !== 'call') throw new TemplateFault('a call block calls a macro');
    const callee = evaluate(call.callee, scope, this);
    const { positional, named } = argumentsOf(call.args, scope, this);
    return this.call(callee, {
      positional,
      named: new Map([...named, ['caller', this.#macro(caller, scope)]]),
    });
  }
}
