import { TemplateFault } from './budget.ts';
import type { Token } from './lexer.ts';

/** Tokens of a template, read from left to right. */
export class TokenStream {
  readonly #tokens: readonly Token[];
  #next = 0;

  /** @param tokens end with a token of type `end` */
  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get current(): Token {
    return this.#tokens[Math.min(this.#next, this.#tokens.length - 1)] as Token;
  }

  get following(): Token {
    return this.#tokens[Math.min(this.#next + 1, this.#tokens.length - 1)] as Token;
  }

  is(type: Token['type'], ...values: readonly string[]): boolean {
    const { current } = this;
    return current.type === type && (values.length === 0 || values.includes(current.value));
  }

  isName(...values: readonly string[]): boolean {
    return this.is('name', ...values);
  }

  isOperator(...values: readonly string[]): boolean {
    return this.is('operator', ...values);
  }

  next(): Token {
    const token = this.current;
    this.#next++;
    return token;
  }

  acceptName(value: string): boolean {
    if (!this.isName(value)) return false;
    this.next();
    return true;
  }

  acceptOperator(value: string): boolean {
    if (!this.isOperator(value)) return false;
    this.next();
    return true;
  }

  expect(type: Token['type'], value?: string): Token {
    if (value === undefined ? this.is(type) : this.is(type, value)) return this.next();
    throw this.fault(`expected ${value === undefined ? type : `'${value}'`}, found ${this.#shown()}`);
  }

  unexpected(): TemplateFault {
    return this.fault(`unexpected ${this.#shown()}`);
  }

  fault(reason: string): TemplateFault {
    return new TemplateFault(`line ${this.current.line}: ${reason}`);
  }

  #shown(): string {
    const { type, value } = this.current;
    if (type === 'end') return 'end of template';
    return value === '' ? type : `'${value.slice(0, 40)}'`;
  }
}
