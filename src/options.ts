import { didYouMean, expected, InputError, show } from './errors.ts';

/** Every name of a type of options, so that a list made of them forgets none. */
export type OptionNames<T> = { readonly [K in keyof T]-?: true };

/** An object of named values. Lists, maps, promises, whose `await` was forgotten, and the like are none, though they are objects without a wrong name. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return /^\[object (Object|Module)\]$/.test(Object.prototype.toString.call(value));
}

/**
 * Refuses what a call does not know: an option without effect is a mistake that nothing else would show.
 * @param options as the caller gave them; undefined is an empty object
 * @param where what takes them, such as `generate`
 * @returns the options
 * @throws InputError for what is no object, and for an unknown name, with the nearest known one
 */
export function checkOptions<T extends object>(
  options: T | undefined,
  known: readonly string[],
  where: string,
): T {
  if (options === undefined) return {} as T;
  if (!isRecord(options))
    throw new InputError(`${where}: the options are ${show(options)}; expected an object`);
  for (const [name, value] of Object.entries(options))
    if (value !== undefined && !known.includes(name)) throw unknownOption(name, known, where);
  checkSignal((options as { signal?: unknown }).signal, where);
  return options;
}

/**
 * As {@link checkOptions} for a call whose other options are variables, as of a chat template: refused is only what looks like an option
 * that is spelt otherwise.
 */
export function checkOpenOptions<T extends object>(
  options: T | undefined,
  known: readonly string[],
  where: string,
): T {
  const names = typeof options === 'object' && options !== null ? Object.keys(options) : [];
  const slip = names.find(
    (name) => !known.includes(name) && (isOtherCase(name, known) || isNear(name, known)),
  );
  if (slip !== undefined) throw unknownOption(slip, known, where);
  return checkOptions(options, [...known, ...names], where);
}

function isOtherCase(name: string, known: readonly string[]): boolean {
  return known.includes(camelCase(name));
}

/** One slip of the pen in a word that is long enough for it to be one. */
function isNear(name: string, known: readonly string[]): boolean {
  return known.some(
    (word) => word.length > 6 && Math.abs(word.length - name.length) < 3 && didYouMean(name, [word]) !== '',
  );
}

/** Whether it is a signal, be it of another realm. */
export function isSignal(signal: unknown): signal is AbortSignal {
  return typeof signal === 'object' && signal !== null && 'aborted' in signal && 'addEventListener' in signal;
}

/** @throws InputError for a signal that is none */
export function checkSignal(signal: unknown, where: string): void {
  if (signal !== undefined && !isSignal(signal))
    throw new InputError(expected(`${where}: signal`, signal, 'an AbortSignal'));
}

/** Other names of our options: in other libraries, over HTTP, and on the command line. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  abortSignal: 'signal',
  chatTemplateKwargs: 'templateArguments',
  deviceMap: 'device',
  experts: 'expertsImplementation',
  inputs: 'inputIds',
  int8Activations: 'activationQuantization',
  loadIn4bit: 'quantization',
  loadIn8bit: 'quantization',
  maxCache: 'maxCacheBytes',
  maxCompletionTokens: 'maxNewTokens',
  maxOutputTokens: 'maxNewTokens',
  maxModelLen: 'maxCacheLength',
  maxTokens: 'maxNewTokens',
  n: 'numReturnSequences',
  nCtx: 'maxCacheLength',
  nThreads: 'threads',
  quantizationConfig: 'quantization',
  quantize: 'quantization',
  stop: 'stopStrings',
  stopSequences: 'stopStrings',
  text: 'prompt',
  torchDtype: 'dtype',
  useAuthToken: 'token',
};

/** The error for an option that a call does not have; names in snake_case, and of other libraries, are led to ours. */
export function unknownOption(name: string, known: readonly string[], where: string): InputError {
  const camel = camelCase(name);
  const ours = Object.hasOwn(ELSEWHERE, camel) ? (ELSEWHERE[camel] as string) : camel;
  const hint = didYouMean(ours, known);
  return new InputError(
    `${where}: ${show(name)} is not an option${hint || `; options are ${[...known].sort().join(', ')}`}`,
  );
}

/**
 * Checks the one argument of a call that cannot do without it, such as `generate({ inputIds })`.
 * @param rest what came after it
 * @throws InputError as {@link checkOptions} and {@link noMore}
 */
export function checkInputs(
  inputs: unknown,
  rest: readonly unknown[],
  known: readonly string[],
  where: string,
): void {
  if (!isRecord(inputs))
    throw new InputError(expected(`The argument of ${where}`, inputs, `an object with ${known[0]}`));
  checkOptions(inputs, known, where);
  noMore(rest, where, 'options stand inside the first');
}

/**
 * Refuses arguments beyond those that a call takes, such as options given twice.
 * @param rest what came after the last argument
 * @param hint where options belong
 */
export function noMore(rest: readonly unknown[], where: string, hint: string): void {
  const surplus = rest.find((argument) => argument !== undefined);
  if (surplus !== undefined)
    throw new InputError(`${where} takes no further argument, but got ${show(surplus)}; ${hint}`);
}

/** `max_new_tokens` as `maxNewTokens`. */
export function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** `maxNewTokens` as `max_new_tokens`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
