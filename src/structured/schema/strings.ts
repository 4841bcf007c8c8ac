import * as z from 'zod';
import { didYouMean, show } from '../../errors.ts';
import type { CharacterSet } from '../characters.ts';
import { FORMAT_NAMES, formatPattern } from '../formats.ts';
import { NEVER, type Node, repeat } from '../grammar.ts';
import { intersect } from '../intersect.ts';
import { quoted, STRING_CHARACTER, stringCharacter } from '../json-text.ts';
import { compileRegex } from '../regex/compile.ts';
import { PatternError } from '../regex/parse.ts';
import { below, type Clock, type Path, refuse } from './errors.ts';
import type { Schema } from './keywords.ts';

/** Patterns that zod writes beside a format and that all texts of the format match; the one looks ahead, the other is large. */
const IMPLIED: Readonly<Record<string, string>> = {
  duration: z.regexes.duration.source,
  email: z.regexes.email.source,
};

/** How the characters of a text are written. */
export interface Spelling {
  /** Any one character, in any of its spellings. */
  readonly any: Node;
  /** One character of a set. */
  readonly of: (set: CharacterSet) => Node;
}

const IN_JSON: Spelling = { any: STRING_CHARACTER, of: stringCharacter };

/** A JSON string as a schema describes it. */
export function stringNode(schema: Schema, path: Path, clock: Clock): Node {
  const content = contentNode(schema, path, IN_JSON, clock);
  return content === NEVER ? NEVER : quoted(content);
}

/**
 * A text within lengths (in characters), patterns and formats, without quotes.
 * @throws InputError by path for what cannot be followed
 */
export function contentNode(schema: Schema, path: Path, spelling: Spelling, clock: Clock): Node {
  const { minLength = 0, maxLength = Infinity } = schema;
  if (maxLength < minLength)
    refuse(below(path, 'maxLength'), `is ${maxLength}, below minLength, ${minLength}`);
  const formats = [schema.format ?? []].flat();
  const patterns = [schema.pattern ?? []].flat();
  const parts = [
    ...formats.flatMap((name) => formatNode(name, patterns.length > 0, below(path, 'format'), spelling)),
    ...patterns
      .filter((pattern) => !formats.some((name) => IMPLIED[name] === pattern))
      .map((pattern) => patternNode(pattern, below(path, 'pattern'), spelling)),
  ];
  const isBounded = minLength > 0 || maxLength < Infinity;
  if (isBounded || parts.length === 0) parts.push(repeat(spelling.any, minLength, maxLength));
  const content = intersect(parts, () => clock(path));
  return (
    content ??
    refuse(
      path,
      'joins lengths, patterns and formats to more states than are followed; leave one of them out',
    )
  );
}

function formatNode(name: string, hasPattern: boolean, path: Path, spelling: Spelling): Node[] {
  const pattern = formatPattern(name);
  if (pattern !== undefined) return [patternNode(pattern, path, spelling)];
  // zod names the kind of its patterns so, and says with the pattern what it means.
  if (hasPattern) return [];
  const names = FORMAT_NAMES.join(', ');
  refuse(
    path,
    `is ${show(name)}${didYouMean(name, FORMAT_NAMES) || `; known formats are ${names}. Use pattern for others`}`,
  );
}

function patternNode(pattern: string, path: Path, spelling: Spelling): Node {
  try {
    return pattern === '' ? repeat(spelling.any, 0) : compileRegex(pattern, spelling.of);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    refuse(path, `is ${show(pattern)}, which cannot be followed: ${error.message}`);
  }
}
