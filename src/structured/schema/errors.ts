import { InputError } from '../../errors.ts';

/** Where in a schema something stands, as a JSON pointer: `#/properties/name`. */
export type Path = string;

export function below(path: Path, ...keys: readonly (string | number)[]): Path {
  return [path, ...keys.map((key) => String(key).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/');
}

/** The error for what cannot be enforced, or is no schema at all. */
export function refuse(path: Path, reason: string): never {
  throw new InputError(`The JSON schema cannot be enforced: ${path} ${reason}`);
}
