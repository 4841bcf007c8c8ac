import { show } from '../../errors.ts';
import { below, type Path, refuse } from './errors.ts';
import { checkKeywords, type Schema } from './keywords.ts';
import { merge } from './merge.ts';

/** Schemas that may be followed from one into the next before one has any keyword of its own. */
const MOST_FOLLOWED = 64;

/** What `#/…` of a document points to, and joins schemas that hold together. */
export class Resolver {
  readonly #document: unknown;

  constructor(document: unknown) {
    this.#document = document;
  }

  /** @throws InputError where the pointer leads out of the document or to nothing */
  target(pointer: string, path: Path): unknown {
    if (pointer !== '#' && !pointer.startsWith('#/'))
      refuse(path, `is ${show(pointer)}; expected a place in the same schema, such as "#/$defs/name"`);
    let at: unknown = this.#document;
    for (const part of pointer.split('/').slice(1)) {
      const key = decode(part, path);
      const isInside = typeof at === 'object' && at !== null && Object.hasOwn(at, key);
      if (!isInside) refuse(path, `is ${show(pointer)}, but the schema has nothing there`);
      at = (at as Record<string, unknown>)[key];
    }
    return at;
  }

  /**
   * One schema without `$ref` and `allOf` that says what several say together.
   * @returns undefined where one of them is `false`
   */
  flat(value: unknown, path: Path, followed = 0): Schema | undefined {
    if (followed > MOST_FOLLOWED) refuse(path, 'leads back to itself without saying anything');
    if (value === true) return {};
    if (value === false) return undefined;
    const { $ref, allOf, ...own } = checkKeywords(value, path);
    let joined: Schema | undefined = own;
    const join = (other: Schema | undefined) => {
      joined = joined && other && merge(joined, other, path);
    };
    if ($ref !== undefined) join(this.flat(this.target($ref, below(path, '$ref')), $ref, followed + 1));
    for (const [i, part] of (allOf ?? []).entries())
      join(this.flat(part, below(path, 'allOf', i), followed + 1));
    return joined;
  }
}

function decode(part: string, path: Path): string {
  try {
    return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
  } catch {
    refuse(path, `has ${show(part)}, which is no part of a pointer`);
  }
}
