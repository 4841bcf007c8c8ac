import { z } from 'zod';
import { ConfigError, issuesText } from '../../errors.ts';
import type { QuantizationSettings, Settings } from './format.ts';

/**
 * Checks the fields that a format looks at; null means "not given", and other fields are left alone.
 * @throws ConfigError naming the place, every faulty field and its value
 */
export function parseSettings<S extends z.ZodType>(
  schema: S,
  { json, file, field }: QuantizationSettings,
): z.output<S> {
  const result = schema.safeParse(withoutNulls(json));
  if (result.success) return result.data;
  throw new ConfigError(`${file}: ${issuesText(result.error.issues, json, field)}`);
}

/** A field of the settings in words: file, path and name. */
export function placeOf({ file, field }: QuantizationSettings, name: string): string {
  return `${file}: ${field === '' ? name : `${field}.${name}`}`;
}

/** Settings inside of others, such as those of one module. */
export function within(settings: QuantizationSettings, name: string, json: Settings): QuantizationSettings {
  return { ...settings, json, field: settings.field === '' ? name : `${settings.field}.${name}` };
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null)
      .map(([name, field]) => [name, withoutNulls(field)]),
  );
}

/** One of several numbers of bits. */
export function bitsOf(served: readonly number[]) {
  const error = `expected ${served.join(', ')}, which can be read`;
  return z.number().refine((bits) => served.includes(bits), { error });
}

/** Columns of a group; -1: a whole row. */
export const groupSize = z
  .int()
  .refine((size) => size === -1 || size > 0, { error: 'expected a number above 0, or -1 for whole rows' });
