import { createContext, Script } from 'node:vm';
import * as jinja from '@huggingface/jinja';
import { InputError, show, TokenizerError } from '../errors.ts';
import { strftime } from './strftime.ts';

// A template comes with the checkpoint, from strangers. These bounds are far above what a conversation needs.
const MOST_STEPS = 5_000_000;
const MOST_TEXT = 16 * 1024 * 1024;
const MOST_ITEMS = 1_000_000;
/** As in Jinja's sandbox. */
const MOST_RANGE = 100_000;
const TIME_LIMIT_MS = 2_000;
const DEEPEST_DATA = 100;

/** The parts of the library used here; its own declarations do not resolve under Node's module rules. */
interface Jinja {
  tokenize(source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): unknown;
  parse(tokens: unknown): object;
  Environment: new (parent?: Scope) => Scope;
  Interpreter: new (
    scope: Scope,
  ) => {
    run(program: object): JinjaValue;
    evaluate(node: object | undefined, scope: Scope): JinjaValue;
  };
}
interface Scope {
  set(name: string, value: unknown): void;
}
interface JinjaValue {
  value: unknown;
}

const { tokenize, parse, Environment, Interpreter } = jinja as unknown as Jinja;

/**
 * A compiled chat template in the Jinja dialect of transformers: `trim_blocks`, `lstrip_blocks`, loop controls,
 * `raise_exception`, `strftime_now`, and `tojson` that does not escape HTML.
 *
 * A template sees plain data and the functions `raise_exception`, `strftime_now`, `range` and `namespace`, nothing of
 * the process. A hostile one is stopped: `range` gives at most 100,000 numbers, a rendering takes at most 5,000,000
 * steps, texts at most 16 Mi characters, lists at most 1,000,000 items, and all of it at most 2 s (rendering is
 * synchronous, so a hostile template can hold up the event loop for that long; ordinary ones take about a millisecond).
 */
export class ChatTemplate {
  readonly #source: string;
  readonly #file: string;
  #program: object | undefined;

  /** @param file where the template comes from, for messages */
  constructor(source: string, file: string) {
    this.#source = source;
    this.#file = file;
  }

  /**
   * Renders the template with the given variables, which must be plain data.
   *
   * @throws {InputError} a variable holds something that is not plain data.
   * @throws {TokenizerError} the template is malformed, refuses the conversation, or exceeds a bound.
   */
  render(variables: Readonly<Record<string, unknown>>): string {
    const data = Object.entries(variables).map(([name, value]) => [name, plainData(value, name)] as const);
    try {
      return withinTime(() => this.#run(data));
    } catch (error) {
      throw new TokenizerError(
        `The chat template of ${this.#file} cannot render this conversation: ${reason(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  #run(data: readonly (readonly [string, unknown])[]): string {
    this.#program ??= parse(tokenize(this.#source, { lstrip_blocks: true, trim_blocks: true }));
    const globals = new Environment();
    for (const [name, value] of Object.entries(templateGlobals())) globals.set(name, value);
    const scope = new Environment(globals);
    for (const [name, value] of data) scope.set(name, value);
    return String(new BoundedInterpreter(scope).run(this.#program).value);
  }
}

/** Evaluates with a limit on steps and on the size of every value made on the way. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;

  override evaluate(node: object | undefined, scope: Scope): JinjaValue {
    if (++this.#steps > MOST_STEPS) throw new Error(`it takes more than ${MOST_STEPS} steps`);
    const result = super.evaluate(node, scope);
    const value = result?.value;
    if (typeof value === 'string' && value.length > MOST_TEXT) {
      throw new Error(`it makes a text of more than ${MOST_TEXT} characters`);
    }
    if (Array.isArray(value) && value.length > MOST_ITEMS) {
      throw new Error(`it makes a list of more than ${MOST_ITEMS} items`);
    }
    return result;
  }
}

function templateGlobals(): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    raise_exception: (message: unknown) => {
      throw new Error(String(message));
    },
    range: boundedRange,
    strftime_now: (format: unknown) => strftime(new Date(), String(format)),
  };
}

function boundedRange(first: unknown, second?: unknown, step: unknown = 1): number[] {
  const [from, to] = second === undefined ? [0, first] : [first, second];
  if (![from, to, step].every(Number.isInteger)) throw new Error('range() takes integers');
  const [start, end, by] = [from, to, step] as [number, number, number];
  if (by === 0) throw new Error('range() needs a step other than zero');
  const length = Math.max(0, Math.ceil((end - start) / by));
  if (length > MOST_RANGE) throw new Error(`range() of ${length} numbers is over the limit of ${MOST_RANGE}`);
  return Array.from({ length }, (_, i) => start + i * by);
}

// Only a script run by `vm` can be stopped from outside while it computes; this one calls whatever `task` is.
const call = new Script('task()');

let realm: { task?: () => string } | undefined;

function withinTime(task: () => string): string {
  realm ??= createContext({}) as { task?: () => string };
  realm.task = task;
  try {
    return call.runInContext(realm, { timeout: TIME_LIMIT_MS }) as string;
  } finally {
    delete realm.task;
  }
}

function reason(error: unknown): string {
  // This one error belongs to the script's own realm, so it is no instance of our `Error`.
  if ((error as NodeJS.ErrnoException | null)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
    return `it takes more than ${TIME_LIMIT_MS / 1000} s.`;
  }
  if (!(error instanceof Error)) return String(error);
  if (error instanceof RangeError && error.message.includes('call stack')) return 'it is nested too deeply.';
  return /[.!?]$/.test(error.message) ? error.message : `${error.message}.`;
}

/** Copies JSON-like data; anything else (functions, class instances, cycles) is refused. */
function plainData(value: unknown, path: string, depth = 0): unknown {
  if (value === undefined || value === null || typeof value === 'string' || typeof value === 'boolean')
    return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (depth > DEEPEST_DATA) throw new InputError(`${path} is nested more than ${DEEPEST_DATA} levels deep.`);
  if (Array.isArray(value)) return value.map((item, i) => plainData(item, `${path}[${i}]`, depth + 1));
  if (isPlainObject(value)) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return Object.fromEntries(
      fields.map(([key, field]) => [key, plainData(field, `${path}.${key}`, depth + 1)]),
    );
  }
  throw new InputError(
    `${path} must be plain data for the chat template (as in JSON), but is ${show(value)}.`,
  );
}

function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Another realm's Object.prototype (a worker's or a test runner's) has no prototype either.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
