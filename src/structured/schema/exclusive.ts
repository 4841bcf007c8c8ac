import type { Schema } from './keywords.ts';
import { commonTypes, isSame } from './merge.ts';

/** Whether it can be seen that no value is valid by two schemas at once: by type, by constants, or by those of a property both require. */
export function excludeEachOther(a: Schema, b: Schema): boolean {
  if (
    a.type !== undefined &&
    b.type !== undefined &&
    commonTypes([a.type].flat(), [b.type].flat()).length === 0
  )
    return true;
  const [values, others] = [constants(a), constants(b)];
  if (values && others) return !values.some((one) => others.some((other) => isSame(one, other)));
  const shared = (a.required ?? []).filter((name) => b.required?.includes(name));
  return shared.some((name) => {
    const [one, other] = [a.properties?.[name], b.properties?.[name]];
    return isPlain(one) && isPlain(other) && isObject(a) && isObject(b) && excludeEachOther(one, other);
  });
}

function constants({ enum: values, const: constant }: Schema): readonly unknown[] | undefined {
  return constant === undefined ? values : [constant];
}

/** A schema of its own words, which can be compared as it stands. */
function isPlain(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !('$ref' in value) && !('allOf' in value);
}

function isObject({ type }: Schema): boolean {
  return type === 'object';
}
