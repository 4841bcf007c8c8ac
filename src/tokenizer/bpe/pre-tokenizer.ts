import * as z from 'zod';
import { toByteLevel } from './byte-level.ts';
import { compilePattern, occurrences, type Pattern, patternSchema } from './pattern.ts';
import { type WordScanner, wordScanner } from './word-scanner.ts';

const BEHAVIORS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const;
type Behavior = (typeof BEHAVIORS)[number];

const byteLevelSchema = z.looseObject({
  type: z.literal('ByteLevel'),
  add_prefix_space: z.boolean().default(true),
  use_regex: z.boolean().default(true),
});
const splitSchema = z.looseObject({
  type: z.literal('Split'),
  pattern: patternSchema,
  behavior: z.enum(BEHAVIORS),
  invert: z.boolean().default(false),
});
const digitsSchema = z.looseObject({
  type: z.literal('Digits'),
  individual_digits: z.boolean().default(false),
});
const spaceSchema = z.looseObject({ type: z.enum(['Whitespace', 'WhitespaceSplit']) });
const punctuationSchema = z.looseObject({
  type: z.literal('Punctuation'),
  behavior: z.enum(BEHAVIORS).default('Isolated'),
});
type PreTokenizerConfig =
  | z.output<
      | typeof byteLevelSchema
      | typeof splitSchema
      | typeof digitsSchema
      | typeof spaceSchema
      | typeof punctuationSchema
    >
  | { type: 'Sequence'; pretokenizers: PreTokenizerConfig[] };

/** `pre_tokenizer` of tokenizer.json, as far as byte-pair tokenizers use it. */
export const preTokenizerSchema: z.ZodType<PreTokenizerConfig> = z.lazy(() =>
  z.discriminatedUnion('type', [
    byteLevelSchema,
    splitSchema,
    digitsSchema,
    spaceSchema,
    punctuationSchema,
    z.looseObject({ type: z.literal('Sequence'), pretokenizers: z.array(preTokenizerSchema) }) as never,
  ]),
);

// Pieces found between two chances of the caller to stop.
const BATCH = 1_024;

/** One step of cutting a text into words. */
type Step =
  | { readonly kind: 'split'; split(text: string): Iterable<string> }
  | { readonly kind: 'map'; map(piece: string): string };

export interface PreTokenizer {
  /** Pieces of a text, in batches. */
  batches(text: string): Generator<string[], void, undefined>;
  /** Whether the pieces stand for their bytes and the model is to write them so. */
  readonly isByteLevel: boolean;
  /** Whether it matches patterns, which need a time limit. */
  readonly hasPatterns: boolean;
}

/**
 * @param prefixSpace overrides `add_prefix_space`, as tokenizer_config.json does in transformers
 * @param field names the pre-tokenizer in messages
 */
export function buildPreTokenizer(
  config: PreTokenizerConfig | null | undefined,
  prefixSpace: boolean | undefined,
  field: string,
): PreTokenizer {
  const configs = config === null || config === undefined ? [] : flatten(config, field);
  const last = configs.at(-1)?.[0];
  const isByteLevel = last?.type === 'ByteLevel';
  const steps = configs.flatMap(([one, where], i) =>
    stepsOf(one, prefixSpace, where, isByteLevel && i === configs.length - 1),
  );
  const hasPatterns = configs.some(([one]) =>
    one.type === 'Split' ? !scannerOf(one) : one.type !== 'ByteLevel' || one.use_regex,
  );
  return { batches: (text) => batches(text, steps), isByteLevel, hasPatterns };
}

function flatten(config: PreTokenizerConfig, field: string): (readonly [PreTokenizerConfig, string])[] {
  if (config.type !== 'Sequence') return [[config, field]];
  return config.pretokenizers.flatMap((one, i) => flatten(one, `${field}.pretokenizers[${i}]`));
}

function scannerOf(config: z.output<typeof splitSchema>): WordScanner | undefined {
  const isPlain = config.behavior === 'Isolated' && !config.invert && 'Regex' in config.pattern;
  return isPlain ? wordScanner((config.pattern as { Regex: string }).Regex) : undefined;
}

const GPT2_WORDS = {
  Regex: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
};
const DIGITS = { Regex: '\\p{N}+' };
const DIGIT = { Regex: '\\p{N}' };
const WORDS = { Regex: '\\w+|[^\\w\\s]+' };
const SPACE = { Regex: '\\s' };
const PUNCTUATION = { Regex: '[\\p{P}!-/:-@\\[-`{-~]' };

function stepsOf(
  config: PreTokenizerConfig,
  prefixSpace: boolean | undefined,
  field: string,
  isLast: boolean,
): Step[] {
  switch (config.type) {
    case 'ByteLevel': {
      const steps: Step[] = [];
      if (prefixSpace ?? config.add_prefix_space) {
        steps.push({ kind: 'map', map: (piece) => (piece.startsWith(' ') ? piece : ` ${piece}`) });
      }
      if (config.use_regex) steps.push(splitter(GPT2_WORDS, 'Isolated', false, field));
      if (!isLast) steps.push({ kind: 'map', map: toByteLevel });
      return steps;
    }
    case 'Split': {
      const scanner = scannerOf(config);
      if (scanner !== undefined) return [{ kind: 'split', split: (text) => scanned(text, scanner) }];
      return [splitter(config.pattern, config.behavior, config.invert, `${field}.pattern`)];
    }
    case 'Digits':
      return [splitter(config.individual_digits ? DIGIT : DIGITS, 'Isolated', false, field)];
    case 'Whitespace':
      return [splitter(WORDS, 'Removed', true, field)];
    case 'WhitespaceSplit':
      return [splitter(SPACE, 'Removed', false, field)];
    case 'Punctuation':
      return [splitter(PUNCTUATION, config.behavior, false, field)];
    default:
      return [];
  }
}

function* scanned(text: string, scanner: WordScanner): Generator<string, void, undefined> {
  for (let at = 0; at < text.length; ) {
    const end = scanner(text, at);
    yield text.slice(at, end);
    at = end;
  }
}

function splitter(pattern: Pattern, behavior: Behavior, invert: boolean, field: string): Step {
  const compiled = compilePattern(pattern, field);
  return { kind: 'split', split: (text) => split(text, compiled, behavior, invert) };
}

/** Source: Hugging Face tokenizers, `tokenizer/normalizer.rs`, `NormalizedString::split`. */
function* split(
  text: string,
  pattern: RegExp,
  behavior: Behavior,
  invert: boolean,
): Generator<string, void, undefined> {
  let kept = '';
  let wasMatch = false;
  for (const [start, end, isFound] of ranges(text, pattern)) {
    const piece = text.slice(start, end);
    const isMatch = isFound !== invert;
    if (behavior === 'Isolated') yield piece;
    else if (behavior === 'Removed') {
      if (!isMatch) yield piece;
    } else {
      // The three other ways join a match with what stands beside it.
      const joins =
        behavior === 'Contiguous'
          ? isMatch === wasMatch
          : behavior === 'MergedWithPrevious'
            ? isMatch && !wasMatch
            : wasMatch && !isMatch;
      if (!joins && kept !== '') yield kept;
      kept = joins ? kept + piece : piece;
      wasMatch = isMatch;
    }
  }
  if (kept !== '') yield kept;
}

/** The whole text in ranges, those that match and those between. */
function* ranges(text: string, pattern: RegExp): Generator<[start: number, end: number, isMatch: boolean]> {
  let at = 0;
  for (const [start, end] of occurrences(pattern, text)) {
    if (start > at) yield [at, start, false];
    if (end > start) yield [start, end, true];
    at = end;
  }
  if (at < text.length) yield [at, text.length, false];
}

function* batches(text: string, steps: readonly Step[]): Generator<string[], void, undefined> {
  let batch: string[] = [];
  for (const piece of apply(text, steps, 0)) {
    batch.push(piece);
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** The pieces that the steps from `first` on make of a text. */
function apply(text: string, steps: readonly Step[], first: number): Iterable<string> {
  let changed = text;
  for (let i = first; i < steps.length; i++) {
    const step = steps[i] as Step;
    if (step.kind === 'map') changed = step.map(changed);
    else return i === steps.length - 1 ? step.split(changed) : further(step.split(changed), steps, i + 1);
  }
  return changed === '' ? [] : [changed];
}

function* further(
  pieces: Iterable<string>,
  steps: readonly Step[],
  first: number,
): Generator<string, void, undefined> {
  for (const piece of pieces) yield* apply(piece, steps, first);
}
