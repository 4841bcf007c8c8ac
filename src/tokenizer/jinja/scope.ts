import { GLOBALS } from './globals.ts';
import { either, Undefined, type Value } from './values.ts';

/** Variables of a part of a template; those around it can be read, not changed. */
export class Scope {
  readonly #variables = new Map<string, Value>();
  readonly #around: Scope | undefined;

  constructor(around?: Scope) {
    this.#around = around;
  }

  get(name: string): Value {
    for (let scope: Scope | undefined = this; scope !== undefined; scope = scope.#around) {
      const value = scope.#variables.get(name);
      if (value !== undefined) return value;
    }
    return either(GLOBALS.get(name), new Undefined(`'${name}' is undefined`));
  }

  set(name: string, value: Value): void {
    this.#variables.set(name, value);
  }
}
