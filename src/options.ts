import { didYouMean, InputError, show } from './errors.ts';

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
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new InputError(`${where}: the options are ${show(options)}; expected an object`);
  for (const [name, value] of Object.entries(options))
    if (value !== undefined && !known.includes(name)) throw unknownOption(name, known, where);
  return options;
}

/** The error for an option that a call does not have; names in snake_case are led to ours. */
export function unknownOption(name: string, known: readonly string[], where: string): InputError {
  const ours = camelCase(name);
  const hint = known.includes(ours) ? `. Did you mean ${show(ours)}?` : didYouMean(ours, known);
  return new InputError(
    `${where}: ${show(name)} is not an option${hint || `; options are ${[...known].sort().join(', ')}`}`,
  );
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
