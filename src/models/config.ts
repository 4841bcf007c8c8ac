import { z } from 'zod';
import { DTYPES, type DType } from '../dtype.ts';
import { ConfigError, issueText, show } from '../errors.ts';

/** Largest size a config may name; far above any real model, and safe to multiply in a double. */
const MAX_SIZE = 2 ** 31 - 1;

export const size = z.int().positive().max(MAX_SIZE);
export const count = z.int().nonnegative().max(MAX_SIZE);
export const tokenId = z.int().nonnegative().max(MAX_SIZE);

/**
 * Validates `json` against `schema`.
 * @param file what to call the source in messages, such as `config.json`
 * @throws ConfigError naming every faulty field with its value
 */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  json: unknown,
  file: string,
  path = '',
): z.output<S> {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError(`${file}: ${path || 'the file'} is ${show(json)}, expected an object of settings`);
  const result = schema.safeParse(withoutNulls(json as Record<string, unknown>));
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => issueText(issue, json, path));
  throw new ConfigError(`${file}: ${faults.join('; ')}`);
}

/** In config files null means "not given", except for the window, where it means "no window". */
function withoutNulls(json: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(json).filter(([key, value]) => value !== null || key === 'sliding_window'),
  );
}

/** A config error about one field, in the wording `parseConfig` uses. */
export function fieldError(file: string, field: string, value: unknown, problem: string): ConfigError {
  return new ConfigError(`${file}: ${field} is ${show(value)}: ${problem}`);
}

/** The checkpoint's declared precision; `dtype` is the newer name of `torch_dtype`. */
export function declaredDtype(
  config: { dtype?: string | undefined; torch_dtype?: string | undefined },
  file: string,
): DType | undefined {
  const [field, value] =
    config.dtype === undefined ? ['torch_dtype', config.torch_dtype] : ['dtype', config.dtype];
  if (value === undefined) return undefined;
  const name = DTYPES.find((dtype) => dtype === value || `torch.${dtype}` === value);
  if (!name) throw fieldError(file, field as string, value, `expected one of ${DTYPES.join(', ')}`);
  return name;
}

/** Copies `from` to `to` where only `from` is given: older and newer names of one field. */
export function alias(json: unknown, from: string, to: string): unknown {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return json;
  const fields = json as Record<string, unknown>;
  if (fields[from] === undefined || fields[from] === null || (fields[to] ?? null) !== null) return json;
  const { [from]: value, ...rest } = fields;
  return { ...rest, [to]: value };
}
