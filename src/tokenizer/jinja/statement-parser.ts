import type { Expression, MacroNode, Statement, Target } from './ast.ts';
import { ExpressionParser } from './expression-parser.ts';
import { tokenize } from './lexer.ts';
import { TokenStream } from './token-stream.ts';

/** Tags of Jinja that reach for other templates, of which a chat template has none, or for extensions that are not on. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ['include', 'a chat template cannot include another template'],
  ['extends', 'a chat template cannot extend another template'],
  ['import', 'a chat template cannot import another template'],
  ['from', 'a chat template cannot import another template'],
]);
const SPECIAL = ['caller', 'varargs', 'kwargs'];

/**
 * Parses a template.
 *
 * Source: Jinja 3.1 `jinja2/parser.py`, class `Parser`; the tag `generation` is transformers'
 * `utils/chat_template_utils.py`, class `AssistantTracker`.
 *
 * @throws {TemplateFault} the template is malformed; the message names the line.
 */
export function parseTemplate(source: string): Statement[] {
  return new StatementParser(new TokenStream(tokenize(source))).template();
}

class StatementParser {
  readonly #stream: TokenStream;
  readonly #expressions: ExpressionParser;
  #loops = 0;

  constructor(stream: TokenStream) {
    this.#stream = stream;
    this.#expressions = new ExpressionParser(stream);
  }

  template(): Statement[] {
    const body = this.#until([]);
    if (!this.#stream.is('end'))
      throw this.#stream.fault(`Encountered unknown tag '${this.#stream.current.value}'`);
    return body;
  }

  /** Statements up to a tag of one of these names, which is left as the next token. */
  #until(ends: readonly string[]): Statement[] {
    const stream = this.#stream;
    const body: Statement[] = [];
    for (;;) {
      if (stream.is('text')) body.push({ type: 'text', text: stream.next().value });
      else if (stream.is('print begin')) {
        stream.next();
        body.push({ type: 'print', value: this.#expressions.tuple() });
        stream.expect('print end');
      } else if (stream.is('block begin')) {
        stream.next();
        if (stream.isName(...ends) && ends.length > 0) return body;
        body.push(...this.#statement());
        stream.expect('block end');
      } else if (ends.length > 0) {
        throw stream.fault(`Unexpected end of template. Jinja was looking for: ${ends.join(' or ')}`);
      } else return body;
    }
  }

  /** The end of a tag, then statements up to a closing tag, whose name is taken. */
  #body(...ends: readonly string[]): Statement[] {
    this.#stream.acceptOperator(':');
    this.#stream.expect('block end');
    return this.#until(ends);
  }

  #closedBody(end: string): Statement[] {
    const body = this.#body(end);
    this.#stream.next();
    return body;
  }

  #statement(): Statement[] {
    const stream = this.#stream;
    const tag = stream.expect('name').value;
    switch (tag) {
      case 'for':
        return [this.#for()];
      case 'if':
        return [this.#if()];
      case 'set':
        return [this.#set()];
      case 'macro':
        return [{ type: 'macro', macro: this.#macro(stream.expect('name').value, 'endmacro') }];
      case 'call':
        return [this.#call()];
      case 'filter': {
        const filter = this.#expressions.filterChain();
        return [{ type: 'filter block', filter, body: this.#closedBody('endfilter') }];
      }
      case 'with':
        return [this.#with()];
      case 'block':
        return [this.#block()];
      case 'print':
        return [{ type: 'print', value: this.#expressions.tuple() }];
      case 'generation':
        return [{ type: 'scope', body: this.#closedBody('endgeneration') }];
      case 'autoescape':
        return [this.#autoescape()];
      case 'break':
      case 'continue':
        if (this.#loops === 0) throw stream.fault(`'${tag}' outside loop`);
        return [{ type: tag }];
      default:
        throw stream.fault(REFUSED.get(tag) ?? `Encountered unknown tag '${tag}'`);
    }
  }

  #for(): Statement {
    const stream = this.#stream;
    const target = this.#targets(false, 'in');
    if (namesOf(target).includes('loop'))
      throw stream.fault("Can't assign to special loop variable in for-loop");
    stream.expect('name', 'in');
    const iterable = this.#expressions.tuple(false, (at) => at.isName('recursive'));
    const filter = stream.acceptName('if') ? this.#expressions.expression() : undefined;
    const recursive = stream.acceptName('recursive');
    this.#loops++;
    const body = this.#body('endfor', 'else');
    this.#loops--;
    const otherwise = stream.next().value === 'else' ? this.#closedBody('endfor') : [];
    return { type: 'for', target, iterable, filter, body, otherwise, recursive };
  }

  #if(): Statement {
    const branches: [Expression, Statement[]][] = [];
    for (;;) {
      const test = this.#expressions.tuple(false);
      branches.push([test, this.#body('elif', 'else', 'endif')]);
      const end = this.#stream.next().value;
      if (end === 'endif') return { type: 'if', branches, otherwise: [] };
      if (end === 'else') return { type: 'if', branches, otherwise: this.#closedBody('endif') };
    }
  }

  #set(): Statement {
    const target = this.#targets(true, '=');
    if (this.#stream.acceptOperator('=')) return { type: 'set', target, value: this.#expressions.tuple() };
    const filter = this.#stream.acceptOperator('|') ? this.#expressions.filterChain() : undefined;
    return { type: 'set block', target, filter, body: this.#closedBody('endset') };
  }

  /** @param fields whether `name.field` may be assigned to */
  #targets(fields: boolean, end: string): Target {
    const stream = this.#stream;
    const items: Target[] = [];
    let isList = false;
    do {
      if (items.length > 0 && (stream.isName(end) || stream.isOperator(end) || stream.is('block end'))) break;
      items.push(this.#target(fields));
      if (stream.isOperator(',')) isList = true;
    } while (stream.acceptOperator(','));
    return isList ? { type: 'targets', items } : (items[0] as Target);
  }

  #target(fields: boolean): Target {
    const stream = this.#stream;
    if (stream.acceptOperator('(')) {
      const inner = this.#targets(fields, ')');
      stream.expect('operator', ')');
      return inner;
    }
    const name = stream.expect('name').value;
    if (['true', 'True', 'false', 'False', 'none', 'None'].includes(name)) {
      throw stream.fault(`can't assign to '${name}'`);
    }
    if (fields && stream.acceptOperator('.')) {
      return { type: 'field', object: name, name: stream.expect('name').value };
    }
    return { type: 'name', name };
  }

  #call(): Statement {
    const signature = this.#stream.isOperator('(') ? this.#signature() : { parameters: [], defaults: [] };
    const call = this.#expressions.expression();
    if (call.type !== 'call') throw this.#stream.fault('expected call');
    return { type: 'call block', call, caller: this.#macroBody('caller', signature, 'endcall') };
  }

  #macro(name: string, end: string): MacroNode {
    return this.#macroBody(name, this.#signature(), end);
  }

  #macroBody(name: string, signature: Pick<MacroNode, 'parameters' | 'defaults'>, end: string): MacroNode {
    const around = this.#expressions.names;
    const loops = this.#loops;
    this.#expressions.names = new Set();
    this.#loops = 0;
    const body = this.#closedBody(end);
    const inside = this.#expressions.names;
    this.#expressions.names = new Set([...around, ...inside]);
    this.#loops = loops;
    return { name, ...signature, body, reads: new Set(SPECIAL.filter((special) => inside.has(special))) };
  }

  #signature(): Pick<MacroNode, 'parameters' | 'defaults'> {
    const stream = this.#stream;
    const parameters: string[] = [];
    const defaults: Expression[] = [];
    stream.expect('operator', '(');
    while (!stream.isOperator(')')) {
      if (parameters.length > 0) stream.expect('operator', ',');
      parameters.push(stream.expect('name').value);
      if (stream.acceptOperator('=')) defaults.push(this.#expressions.expression());
      else if (defaults.length > 0) throw stream.fault('non-default argument follows default argument');
    }
    stream.next();
    return { parameters, defaults };
  }

  #with(): Statement {
    const stream = this.#stream;
    const targets: [Target, Expression][] = [];
    while (!stream.is('block end')) {
      if (targets.length > 0) stream.expect('operator', ',');
      const target = this.#targets(false, '=');
      stream.expect('operator', '=');
      targets.push([target, this.#expressions.expression()]);
    }
    return { type: 'with', targets, body: this.#closedBody('endwith') };
  }

  #block(): Statement {
    const stream = this.#stream;
    const name = stream.expect('name').value;
    stream.acceptName('scoped');
    stream.acceptName('required');
    const body = this.#closedBody('endblock');
    stream.acceptName(name);
    return { type: 'block', name, body };
  }

  #autoescape(): Statement {
    const value = this.#expressions.expression();
    if (value.type !== 'constant' || value.value !== false) {
      throw this.#stream.fault('autoescape is not supported: prompts are not HTML');
    }
    return { type: 'scope', body: this.#closedBody('endautoescape') };
  }
}

function namesOf(target: Target): string[] {
  if (target.type === 'targets') return target.items.flatMap(namesOf);
  return target.type === 'name' ? [target.name] : [];
}
