import { setMaxListeners } from 'node:events';

/** Marks our errors with their kinds, for all copies of the package in a process. */
const KINDS = Symbol.for('moe-switchyard.error.kinds');

/** What kind of failure it is, for programs. */
export type ErrorCode =
  | 'SWITCHYARD_ERROR'
  | 'SWITCHYARD_CONFIG'
  | 'SWITCHYARD_CHECKPOINT'
  | 'SWITCHYARD_HUB'
  | 'SWITCHYARD_EXPERTS'
  | 'SWITCHYARD_TOKENIZER'
  | 'SWITCHYARD_INPUT'
  | 'SWITCHYARD_ENGINE'
  | 'SWITCHYARD_ABORT';

/**
 * Every failure Switchyard reports is a `SwitchyardError`. A message says what failed, where (file, tensor, field),
 * what was found, and what to do about it. `instanceof` also holds for errors of another copy of the package.
 */
export class SwitchyardError extends Error {
  override name = 'SwitchyardError';
  /** The kind of failure, the same in every version: to be compared, while messages are to be read. */
  readonly code: ErrorCode = 'SWITCHYARD_ERROR';

  /** The names of the classes of this error that the package has. @internal */
  get [KINDS](): readonly string[] {
    return kindsOf(this);
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: each class of errors inherits it, and asks for itself.
    return isOfKind(this, value);
  }
}

/** config.json, generation_config.json or another JSON file has a field that is missing, malformed or unsupported. */
export class ConfigError extends SwitchyardError {
  override name = 'ConfigError';
  override readonly code = 'SWITCHYARD_CONFIG';
}

/** A weights file is damaged, or the tensors in it are not the ones the architecture needs. */
export class CheckpointError extends SwitchyardError {
  override name = 'CheckpointError';
  override readonly code = 'SWITCHYARD_CHECKPOINT';
}

/** A repo or file cannot be found, reached, downloaded or read from the cache. */
export class HubError extends SwitchyardError {
  override name = 'HubError';
  override readonly code = 'SWITCHYARD_HUB';
}

/** An experts implementation is unknown, malformed, or cannot serve the model. */
export class ExpertsError extends SwitchyardError {
  override name = 'ExpertsError';
  override readonly code = 'SWITCHYARD_EXPERTS';
}

/** A tokenizer file or chat template is damaged, unsupported, or refuses the conversation. */
export class TokenizerError extends SwitchyardError {
  override name = 'TokenizerError';
  override readonly code = 'SWITCHYARD_TOKENIZER';
}

/** An argument of a call is out of range or of the wrong type. */
export class InputError extends SwitchyardError {
  override name = 'InputError';
  override readonly code = 'SWITCHYARD_INPUT';
}

/** The native engine is missing, does not fit this machine, or failed during a run. */
export class EngineError extends SwitchyardError {
  override name = 'EngineError';
  override readonly code = 'SWITCHYARD_ENGINE';
}

/** A call was ended through its `AbortSignal`. `cause` is the signal's reason. */
export class AbortError extends SwitchyardError {
  override name = 'AbortError';
  override readonly code = 'SWITCHYARD_ABORT';
}

/** By class, the name that holds across copies; a bundler may have changed the class's own. */
const KIND_NAMES = new Map<unknown, string>();

/** Gives a class of errors the name by which other copies of the package know it. */
export function nameKind(type: { readonly prototype: SwitchyardError }, name: string): void {
  KIND_NAMES.set(type, name);
}

nameKind(SwitchyardError, 'SwitchyardError');
nameKind(ConfigError, 'ConfigError');
nameKind(CheckpointError, 'CheckpointError');
nameKind(HubError, 'HubError');
nameKind(ExpertsError, 'ExpertsError');
nameKind(TokenizerError, 'TokenizerError');
nameKind(InputError, 'InputError');
nameKind(EngineError, 'EngineError');
nameKind(AbortError, 'AbortError');

function isOfKind(type: typeof SwitchyardError, value: unknown): boolean {
  const name = KIND_NAMES.get(type);
  // A class derived elsewhere has no name that another copy would know.
  if (name === undefined) return Function.prototype[Symbol.hasInstance].call(type, value);
  const kinds: unknown =
    typeof value === 'object' ? (value as { [KINDS]?: unknown } | null)?.[KINDS] : undefined;
  return Array.isArray(kinds) && kinds.includes(name);
}

function kindsOf(error: SwitchyardError): string[] {
  const kinds: string[] = [];
  for (
    let proto: unknown = Object.getPrototypeOf(error);
    proto !== null;
    proto = Object.getPrototypeOf(proto)
  ) {
    const name = KIND_NAMES.get((proto as { constructor: unknown }).constructor);
    if (name !== undefined) kinds.push(name);
  }
  return kinds;
}

/** Renders a value for an error message: JSON, at most 80 characters. */
export function show(value: unknown): string {
  let text: string;
  if (typeof value === 'function') text = `function ${value.name || '(anonymous)'}`;
  else if (value instanceof Promise) text = 'a promise';
  else if (typeof value === 'bigint') text = `${value}n`;
  else if (value === undefined) text = 'undefined';
  else if (typeof value === 'number') text = String(value);
  else {
    try {
      text = JSON.stringify(beginning(value)) ?? String(value);
    } catch {
      text = Object.prototype.toString.call(value);
    }
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** As much of a list or text as can be shown: of millions of entries, writing down all would take seconds. */
function beginning(value: unknown): unknown {
  return Array.isArray(value) || typeof value === 'string' ? value.slice(0, 80) : value;
}

/** The one sentence for a value that will not do: "dtype is "bf16"; expected auto, float32". */
export function expected(what: string, value: unknown, wanted: string): string {
  return `${what} is ${show(value)}; expected ${wanted}`;
}

/** The sentence that leads to the right word: `Did you mean "x"?`. */
export function suggestion(word: string): string {
  return `Did you mean ${show(word)}?`;
}

/** The end of a message about an unknown word: `. Did you mean "x"?`, or nothing where no known one comes close. */
export function didYouMean(word: unknown, known: Iterable<string>): string {
  const guess = typeof word === 'string' ? nearest(word, known) : undefined;
  return guess === undefined ? '' : `. ${suggestion(guess)}`;
}

/** What a schema found wrong, as of zod: where, and why. */
interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly code?: string | undefined;
  /** Where a value is none of several alternatives: what each of them found. */
  readonly errors?: readonly (readonly Issue[])[] | undefined;
  /** What is wrong with the name of a member. */
  readonly issues?: readonly Issue[] | undefined;
  /** Where a field says which of them it is to be: the words for that. */
  readonly options?: readonly unknown[] | undefined;
}

/** A finding in our words; one about alternatives as that of the one which was meant: the one that went furthest into the value. */
export function plainIssue(issue: Issue): Issue {
  const { path, code, errors = [], options } = issue;
  if (code === 'invalid_key') return plainIssue({ message: issue.message, ...issue.issues?.[0], path });
  if (code === 'invalid_union' && options)
    return { path, message: `expected ${options.map(String).join(' or ')}` };
  // A schema may say itself what it wants instead of all alternatives.
  if (code !== 'invalid_union' || issue.message !== 'Invalid input')
    return { ...issue, message: inOurWords(issue.message) };
  const found = errors.flatMap(([first]) => (first ? [plainIssue(first)] : []));
  const isOfOtherKind = (one: Issue) =>
    one.path.length === 0 && /^invalid_(type|value)$/.test(one.code ?? '');
  const meant = found.filter((one) => !isOfOtherKind(one)).sort((a, b) => byDepth(b.path, a.path))[0];
  if (meant) return { ...meant, path: [...path, ...meant.path] };
  const wanted = found.map(({ message }) => message.replace(/^expected /, ''));
  return { path, message: `expected ${[...new Set(wanted)].join(' or ')}` };
}

/** Compares how far two paths lie into a value: by the first entry of a list in which they differ, else by their length. */
function byDepth(a: Issue['path'], b: Issue['path']): number {
  const i = a.findIndex((key, i) => key !== b[i]);
  return i === -1 ? a.length - b.length : Number(a[i] ?? -1) - Number(b[i] ?? -1) || a.length - b.length;
}

/**
 * A schema's finding in words: the field, its value, what was expected.
 * @param given what was checked
 * @param at path of `given` itself, such as `text_config`
 */
export function issueText(issue: Issue, given: unknown, at = ''): string {
  const { path, message } = plainIssue(issue);
  const value = path.reduce<unknown>((parent, key) => (parent as Record<PropertyKey, unknown>)?.[key], given);
  const field = [...(at ? [at] : []), ...path.map((key) => String(key) || '""')].join('.');
  return `${field || 'the content'} is ${show(value)}; ${message}`;
}

/** Findings that are spelt out. */
const MOST_ISSUES = 8;

/** All that a schema found wrong, as {@link issueText} says it; of very many the first ones. */
export function issuesText(issues: readonly Issue[], given: unknown, at = ''): string {
  const told = issues.slice(0, MOST_ISSUES).map((issue) => issueText(issue, given, at));
  if (issues.length > MOST_ISSUES) told.push(`and ${issues.length - MOST_ISSUES} more`);
  return told.join('; ');
}

/** Types as schemas name them. */
const TYPES: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  array: 'a list',
  record: 'an object',
  object: 'an object',
};

/** "Invalid input: expected int, received null" as "expected a whole number", "Too big: expected number to be <=9" as "expected a number <=9". */
function inOurWords(message: string): string {
  return message
    .replace(/^(?:Invalid|Too) \w+: /, '')
    .replace(/, received .*$/, '')
    .replace(/^expected (\w+)(?: to be)?/, (whole, type: string) =>
      TYPES[type] ? `expected ${TYPES[type]}` : whole,
    );
}

/**
 * @param what that is ended, such as `the download`
 * @throws AbortError once the signal has fired
 */
export function abortIf(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw abortError(signal, what);
}

/** The error of a call that its signal has ended. */
export function abortError(signal: AbortSignal, what: string): AbortError {
  return new AbortError(`${what} was aborted`, { cause: signal.reason });
}

/**
 * Runs a call that a signal may end: whatever it fails with once the signal has fired, callers see an `AbortError`.
 * @param what that is ended, such as `the download`
 * @throws AbortError once the signal has fired; else what `work` throws
 */
export async function abortable<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  abortIf(signal, what);
  try {
    return await work();
  } catch (error) {
    throw signal?.aborted && !(error instanceof AbortError) ? abortError(signal, what) : error;
  }
}

/**
 * What comes of work that others may need too: once the signal fires nobody waits for it any more, and it goes on by itself.
 * @param what that is waited for
 * @throws AbortError once the signal has fired; else what the work throws
 */
export async function unlessAborted<T>(
  signal: AbortSignal | undefined,
  what: string,
  work: PromiseLike<T>,
): Promise<T> {
  if (signal === undefined) return work;
  let stop = () => {};
  const ended = new Promise<never>((_, reject) => {
    const leave = () => reject(abortError(signal, what));
    stop = onAbort(signal, leave);
    if (signal.aborted) leave();
  });
  try {
    return await Promise.race([work, ended]);
  } finally {
    stop();
  }
}

/**
 * Calls `listener` once when a signal fires. Any number of calls may share a signal, which is no leak: Node does not warn of it.
 *
 * @returns ends the listening
 */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => {};
  // Those of another realm, as of a test runner with a page, are none of Node's, which does not warn of them either.
  if (signal instanceof EventTarget) setMaxListeners(0, signal);
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/** Tells something worth knowing that is no fault: to `onWarning`, else as a process warning. */
export function warn(message: string, onWarning?: (message: string) => void): void {
  if (onWarning) onWarning(message);
  else process.emitWarning(message, 'SwitchyardWarning');
}

/** The candidate closest to `name` by edit distance, or undefined when none is close enough to be a likely typo. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  // Of three letters two others make another word.
  let bestDistance = Math.max(name.length > 3 ? 2 : 1, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] as number) + 1, (current[j - 1] as number) + 1));
    }
    previous = current;
  }
  return previous[b.length] as number;
}
