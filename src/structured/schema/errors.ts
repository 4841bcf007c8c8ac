import { InputError } from '../../errors.ts';

/** Where in a schema something stands, as a JSON pointer: `#/properties/name`. */
export type Path = string;

export function below(path: Path, ...keys: readonly (string | number)[]): Path {
  return [path, ...keys.map((key) => String(key).replaceAll('~', '~0').replaceAll('/', '~1'))].join('/');
}

/** Asked now and then while a schema is compiled: fails once that takes too long. */
export type Clock = (path: Path) => void;

/** Milliseconds that one schema may take; ordinary ones take some. */
const MOST_TIME = 2000;

export function newClock(): Clock {
  const end = performance.now() + MOST_TIME;
  return (path) => {
    if (performance.now() > end)
      refuse(path, `takes more than ${MOST_TIME / 1000} s to compile; make it smaller`);
  };
}

/** The error for what cannot be enforced, or is no schema at all. */
export function refuse(path: Path, reason: string): never {
  throw new InputError(`The JSON schema cannot be enforced: ${path} ${reason}`);
}
