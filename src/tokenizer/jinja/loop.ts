import { type Budget, TemplateFault } from './budget.ts';
import { isEqual } from './operators.ts';
import { Callable, either, Tuple, Undefined, type Value } from './values.ts';

/** The variable `loop`. Source: Jinja 3.1 `jinja2/runtime.py`, class `LoopContext`. */
export class Loop extends Callable {
  override readonly type = 'LoopContext';
  readonly #items: readonly Value[];
  readonly #depth: number;
  index = 0;
  #last: readonly Value[] | undefined;

  /** @param recurse renders the loop again over another value, where it is recursive */
  constructor(items: readonly Value[], depth: number, recurse: ((iterable: Value) => Value) | undefined) {
    super('loop', ({ positional: [iterable] }) => {
      if (recurse === undefined) {
        throw new TemplateFault("The loop must have the 'recursive' marker to be called recursively.");
      }
      if (iterable === undefined) throw new TemplateFault('loop() takes what to go through');
      return recurse(iterable);
    });
    this.#items = items;
    this.#depth = depth;
  }

  override attribute(name: string): Value | undefined {
    const { index } = this;
    const { length } = this.#items;
    switch (name) {
      case 'index':
        return BigInt(index + 1);
      case 'index0':
        return BigInt(index);
      case 'revindex':
        return BigInt(length - index);
      case 'revindex0':
        return BigInt(length - index - 1);
      case 'first':
        return index === 0;
      case 'last':
        return index === length - 1;
      case 'length':
        return BigInt(length);
      case 'depth':
        return BigInt(this.#depth + 1);
      case 'depth0':
        return BigInt(this.#depth);
      case 'previtem':
        return either(this.#items[index - 1], new Undefined('there is no previous item'));
      case 'nextitem':
        return either(this.#items[index + 1], new Undefined('there is no next item'));
      case 'cycle':
        return new Callable(name, ({ positional }) => {
          if (positional.length === 0) throw new TemplateFault('no items for cycling given');
          return positional[index % positional.length] as Value;
        });
      case 'changed':
        return new Callable(name, ({ positional }, { budget }) => this.#changed(positional, budget));
      default:
        return undefined;
    }
  }

  #changed(values: readonly Value[], budget: Budget): boolean {
    const last = this.#last;
    this.#last = values;
    return last === undefined || !isEqual(new Tuple(last), new Tuple(values), budget);
  }
}
