import { bind, integerOf, textOf } from './arguments.ts';
import { TemplateFault } from './budget.ts';
import { iterate } from './iterate.ts';
import { strftime } from './strftime.ts';
import { toText } from './text.ts';
import {
  type Arguments,
  Callable,
  Dict,
  Namespace,
  PythonObject,
  Range,
  type Runtime,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** As in Jinja's sandbox. */
const MOST_RANGE = 100_000;

class Cycler extends PythonObject {
  override readonly type = 'Cycler';
  readonly #items: readonly Value[];
  #position = 0;

  constructor(items: readonly Value[]) {
    super();
    if (items.length === 0) throw new TemplateFault('at least one item has to be provided');
    this.#items = items;
  }

  override attribute(name: string): Value | undefined {
    const current = this.#items[this.#position] as Value;
    if (name === 'current') return current;
    if (name === 'reset') {
      return new Callable(name, () => {
        this.#position = 0;
        return null;
      });
    }
    if (name !== 'next') return undefined;
    return new Callable(name, () => {
      const item = this.#items[this.#position] as Value;
      this.#position = (this.#position + 1) % this.#items.length;
      return item;
    });
  }
}

/** Functions that every template may call. Source: Jinja 3.1 `defaults.py`; transformers `utils/chat_template_utils.py`. */
export const GLOBALS: ReadonlyMap<string, Value> = new Map<string, Value>(
  Object.entries({
    range: callable('range', range),
    dict: callable('dict', dict),
    namespace: callable('namespace', namespace),
    cycler: callable('cycler', ({ positional }) => new Cycler(positional)),
    joiner: callable('joiner', joiner),
    raise_exception: callable('raise_exception', (args, { budget }) => {
      const [message] = bind('raise_exception', 'message', args);
      throw new TemplateFault(toText(message as Value, budget));
    }),
    strftime_now: callable('strftime_now', (args) => {
      const [format] = bind('strftime_now', 'format', args);
      return strftime(new Date(), textOf(format, 'strftime() argument 1'));
    }),
  }),
);

function callable(name: string, invoke: (args: Arguments, runtime: Runtime) => Value): Callable {
  return new Callable(name, invoke);
}

function range(args: Arguments): Range {
  const given = bind('range', 'start stop? step?', args).map((value) => integerOf(value, 'range()'));
  const [first, second, step] = [given[0] as number, given[1], given[2] ?? 1];
  if (step === 0) throw new TemplateFault('range() arg 3 must not be zero');
  const result = second === undefined ? new Range(0, first, step) : new Range(first, second, step);
  if (result.length > MOST_RANGE) {
    throw new TemplateFault(`range() of ${result.length} numbers is over the limit of ${MOST_RANGE}`);
  }
  return result;
}

function dict({ positional: [source], named }: Arguments, { budget }: Runtime): Dict {
  const result = new Dict(source === undefined ? [] : entriesOf(source, budget));
  for (const [key, value] of named) result.set(key, value);
  budget.items(result.size);
  return result;
}

function namespace(args: Arguments, runtime: Runtime): Namespace {
  const result = new Namespace();
  for (const [key, value] of dict(args, runtime).entries())
    result.fields.set(toText(key, runtime.budget), value);
  return result;
}

function entriesOf(source: Value, budget: Runtime['budget']): (readonly [Value, Value])[] {
  if (source instanceof Dict) return source.entries();
  if (source instanceof Undefined) return [];
  return [...iterate(source, budget)].map((pair) => {
    const items = pair instanceof Tuple ? pair.items : Array.isArray(pair) ? pair : [];
    if (items.length === 2) return [items[0] as Value, items[1] as Value];
    throw new TemplateFault(
      `cannot convert dictionary update sequence element of type ${typeName(pair)} to a sequence`,
    );
  });
}

function joiner({ positional: [separator = ', '] }: Arguments): Callable {
  let isUsed = false;
  return new Callable('joiner', () => {
    const result = isUsed ? separator : '';
    isUsed = true;
    return result;
  });
}
