import type { BinaryOperator, CallArguments, Comparison, Expression } from './ast.ts';
import type { Token } from './lexer.ts';
import type { TokenStream } from './token-stream.ts';

const CONSTANTS: ReadonlyMap<string, boolean | null> = new Map<string, boolean | null>([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['none', null],
  ['None', null],
]);
const NO_ARGUMENTS: CallArguments = { positional: [], named: [] };
const COMPARISONS: readonly string[] = ['==', '!=', '<', '<=', '>', '>='];
/** Names that go on with the expression around a test; any other name is the argument of the test. */
const AFTER_TEST: readonly string[] = ['else', 'or', 'and'];

/** Reads expressions. Source: Jinja 3.1 `jinja2/parser.py`, class `Parser`, from `parse_expression` on. */
export class ExpressionParser {
  readonly #stream: TokenStream;
  /** Names read so far; a macro asks which of the special ones its body reads. */
  names = new Set<string>();

  constructor(stream: TokenStream) {
    this.#stream = stream;
  }

  /** An expression, or several with commas between, which make a tuple. */
  tuple(conditions = true, ends: (stream: TokenStream) => boolean = () => false): Expression {
    const stream = this.#stream;
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0 && isTuple && (this.#isTupleEnd() || ends(stream))) break;
      items.push(conditions ? this.expression() : this.#or());
      if (!stream.acceptOperator(',')) break;
      isTuple = true;
    }
    return isTuple ? { type: 'tuple', items } : (items[0] as Expression);
  }

  /** @param conditions whether `a if b else c` may stand here */
  expression(conditions = true): Expression {
    return conditions ? this.#condition() : this.#or();
  }

  /** `name(args) | name …` of a filter block, without what it works on. */
  filterChain(): Expression {
    let result: Expression | undefined;
    while (result === undefined || this.#stream.acceptOperator('|')) {
      const name = this.#dottedName();
      const args = this.#stream.isOperator('(') ? this.callArguments() : NO_ARGUMENTS;
      result = { type: 'filter', name, operand: result, args };
    }
    return result;
  }

  callArguments(): CallArguments {
    const stream = this.#stream;
    stream.expect('operator', '(');
    const positional: Expression[] = [];
    const named: [string, Expression][] = [];
    let list: Expression | undefined;
    let dict: Expression | undefined;
    for (let first = true; !stream.isOperator(')'); first = false) {
      if (!first) {
        stream.expect('operator', ',');
        if (stream.isOperator(')')) break;
      }
      if (stream.acceptOperator('*')) {
        if (list !== undefined || dict !== undefined) throw stream.fault('invalid syntax for function call');
        list = this.expression();
      } else if (stream.acceptOperator('**')) {
        if (dict !== undefined) throw stream.fault('invalid syntax for function call');
        dict = this.expression();
      } else if (
        stream.is('name') &&
        stream.following.type === 'operator' &&
        stream.following.value === '='
      ) {
        const name = stream.next().value;
        stream.next();
        if (named.some(([known]) => known === name)) throw stream.fault(`keyword argument repeated: ${name}`);
        named.push([name, this.expression()]);
      } else {
        if (named.length > 0 || list !== undefined || dict !== undefined) {
          throw stream.fault('invalid syntax for function call');
        }
        positional.push(this.expression());
      }
    }
    stream.expect('operator', ')');
    return { positional, named, list, dict };
  }

  #condition(): Expression {
    let result = this.#or();
    while (this.#stream.acceptName('if')) {
      const test = this.#or();
      const no = this.#stream.acceptName('else') ? this.#condition() : undefined;
      result = { type: 'condition', test, yes: result, no };
    }
    return result;
  }

  #or(): Expression {
    let left = this.#and();
    while (this.#stream.acceptName('or')) left = { type: 'or', left, right: this.#and() };
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.#stream.acceptName('and')) left = { type: 'and', left, right: this.#not() };
    return left;
  }

  #not(): Expression {
    if (this.#stream.acceptName('not')) return { type: 'not', operand: this.#not() };
    return this.#compare();
  }

  #compare(): Expression {
    const stream = this.#stream;
    const first = this.#sum();
    const rest: [Comparison, Expression][] = [];
    for (;;) {
      if (stream.isOperator(...COMPARISONS)) rest.push([stream.next().value as Comparison, this.#sum()]);
      else if (stream.acceptName('in')) rest.push(['in', this.#sum()]);
      else if (stream.isName('not') && stream.following.type === 'name' && stream.following.value === 'in') {
        stream.next();
        stream.next();
        rest.push(['not in', this.#sum()]);
      } else return rest.length > 0 ? { type: 'compare', first, rest } : first;
    }
  }

  #sum(): Expression {
    return this.#binary(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const parts = [this.#product()];
    while (this.#stream.acceptOperator('~')) parts.push(this.#product());
    return parts.length === 1 ? (parts[0] as Expression) : { type: 'concat', parts };
  }

  #product(): Expression {
    return this.#binary(['*', '/', '//', '%'], () => this.#binary(['**'], () => this.#unary(true)));
  }

  #binary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (this.#stream.isOperator(...operators)) {
      const operator = this.#stream.next().value as BinaryOperator;
      left = { type: 'binary', operator, left, right: operand() };
    }
    return left;
  }

  #unary(filters: boolean): Expression {
    const stream = this.#stream;
    let result: Expression;
    if (stream.acceptOperator('-')) result = { type: 'negative', operand: this.#unary(false) };
    else if (stream.acceptOperator('+')) result = { type: 'positive', operand: this.#unary(false) };
    else result = this.primary();
    result = this.#postfix(result);
    return filters ? this.#filtersAndTests(result) : result;
  }

  primary(): Expression {
    const stream = this.#stream;
    const token = stream.current;
    if (token.type === 'name') {
      stream.next();
      const constant = CONSTANTS.get(token.value);
      if (constant !== undefined) return { type: 'constant', value: constant };
      this.names.add(token.value);
      return { type: 'name', name: token.value };
    }
    if (token.type === 'string') {
      let value = '';
      while (stream.is('string')) value += stream.next().value;
      return { type: 'constant', value };
    }
    if (token.type === 'integer' || token.type === 'float')
      return { type: 'constant', value: number(stream.next()) };
    if (stream.isOperator('(')) return this.#parentheses();
    if (stream.isOperator('['))
      return { type: 'list', items: this.#items('[', ']', () => this.expression()) };
    if (stream.isOperator('{')) return { type: 'dict', entries: this.#items('{', '}', () => this.#entry()) };
    throw stream.unexpected();
  }

  #parentheses(): Expression {
    const stream = this.#stream;
    stream.next();
    if (stream.acceptOperator(')')) return { type: 'tuple', items: [] };
    const inner = this.tuple();
    stream.expect('operator', ')');
    return inner;
  }

  #entry(): readonly [Expression, Expression] {
    const key = this.expression();
    this.#stream.expect('operator', ':');
    return [key, this.expression()];
  }

  #items<T>(open: string, close: string, item: () => T): T[] {
    const stream = this.#stream;
    stream.expect('operator', open);
    const items: T[] = [];
    while (!stream.isOperator(close)) {
      if (items.length > 0) stream.expect('operator', ',');
      if (stream.isOperator(close)) break;
      items.push(item());
    }
    stream.expect('operator', close);
    return items;
  }

  #postfix(start: Expression): Expression {
    const stream = this.#stream;
    let result = start;
    for (;;) {
      if (stream.acceptOperator('.')) {
        const token = stream.next();
        if (token.type === 'name') result = { type: 'attribute', object: result, name: token.value };
        else if (token.type !== 'integer') throw stream.fault('expected name or number');
        else result = { type: 'item', object: result, key: { type: 'constant', value: number(token) } };
      } else if (stream.isOperator('[')) result = { type: 'item', object: result, key: this.#subscript() };
      else if (stream.isOperator('(')) result = { type: 'call', callee: result, args: this.callArguments() };
      else return result;
    }
  }

  #subscript(): Expression {
    const stream = this.#stream;
    stream.expect('operator', '[');
    const items: Expression[] = [];
    let commas = 0;
    while (!stream.isOperator(']')) {
      items.push(this.#subscriptItem());
      if (!stream.acceptOperator(',')) break;
      commas++;
    }
    if (items.length === 0) throw stream.fault('expected an item between [ and ]');
    stream.expect('operator', ']');
    return commas === 0 ? (items[0] as Expression) : { type: 'tuple', items };
  }

  #subscriptItem(): Expression {
    const stream = this.#stream;
    const parts: (Expression | undefined)[] = [];
    const part = () => (stream.isOperator(':', ']', ',') ? undefined : this.expression());
    parts.push(part());
    while (parts.length < 3 && stream.acceptOperator(':')) parts.push(part());
    if (parts.length > 1) return { type: 'slice', start: parts[0], stop: parts[1], step: parts[2] };
    if (parts[0] === undefined) throw stream.unexpected();
    return parts[0];
  }

  #filtersAndTests(start: Expression): Expression {
    const stream = this.#stream;
    let result = start;
    for (;;) {
      if (stream.acceptOperator('|')) {
        const name = this.#dottedName();
        const args = stream.isOperator('(') ? this.callArguments() : NO_ARGUMENTS;
        result = { type: 'filter', name, operand: result, args };
      } else if (stream.acceptName('is')) result = this.#test(result);
      else if (stream.isOperator('(')) result = { type: 'call', callee: result, args: this.callArguments() };
      else return result;
    }
  }

  #test(operand: Expression): Expression {
    const stream = this.#stream;
    const negated = stream.acceptName('not');
    const name = this.#dottedName();
    let args = NO_ARGUMENTS;
    const startsArgument =
      stream.is('name') ||
      stream.is('string') ||
      stream.is('integer') ||
      stream.is('float') ||
      stream.isOperator('{', '[');
    if (stream.isOperator('(')) args = this.callArguments();
    else if (stream.isName('is')) throw stream.fault('You cannot chain multiple tests with is');
    else if (startsArgument && !stream.isName(...AFTER_TEST)) {
      args = { positional: [this.#postfix(this.primary())], named: [] };
    }
    const test: Expression = { type: 'test', name, operand, args };
    return negated ? { type: 'not', operand: test } : test;
  }

  #dottedName(): string {
    let name = this.#stream.expect('name').value;
    while (this.#stream.acceptOperator('.')) name += `.${this.#stream.expect('name').value}`;
    return name;
  }

  #isTupleEnd(): boolean {
    const stream = this.#stream;
    return stream.is('print end') || stream.is('block end') || stream.isOperator(')');
  }
}

function number(token: Token): bigint | number {
  const text = token.value.replaceAll('_', '');
  return token.type === 'integer' ? BigInt(text.replace(/^0+(?=\d)/, '')) : Number(text);
}
