import * as z from 'zod';
import { TokenizerError } from '../../errors.ts';
import { compilePattern, patternSchema } from './pattern.ts';

const formSchema = z.looseObject({ type: z.enum(['NFC', 'NFD', 'NFKC', 'NFKD']) });
const plainSchema = z.looseObject({ type: z.enum(['Lowercase', 'StripAccents']) });
const stripSchema = z.looseObject({
  type: z.literal('Strip'),
  strip_left: z.boolean().default(true),
  strip_right: z.boolean().default(true),
});
const prependSchema = z.looseObject({ type: z.literal('Prepend'), prepend: z.string() });
const replaceSchema = z.looseObject({
  type: z.literal('Replace'),
  pattern: patternSchema,
  content: z.string(),
});
type Steps = { type: 'Sequence'; normalizers: NormalizerConfig[] };
type NormalizerConfig =
  | z.output<
      | typeof formSchema
      | typeof plainSchema
      | typeof stripSchema
      | typeof prependSchema
      | typeof replaceSchema
    >
  | Steps;

/** `normalizer` of tokenizer.json, as far as byte-pair tokenizers use it. */
export const normalizerSchema: z.ZodType<NormalizerConfig> = z.lazy(() =>
  z.discriminatedUnion('type', [
    formSchema,
    plainSchema,
    stripSchema,
    prependSchema,
    replaceSchema,
    z.looseObject({ type: z.literal('Sequence'), normalizers: z.array(normalizerSchema) }) as never,
  ]),
);

export interface Normalizer {
  apply(text: string): string;
  /** Whether it matches patterns of the file, which need a time limit. */
  readonly hasPatterns: boolean;
}

/** @param field names the normalizer in messages */
export function buildNormalizer(config: NormalizerConfig | null | undefined, field: string): Normalizer {
  if (config === null || config === undefined) return { apply: (text) => text, hasPatterns: false };
  switch (config.type) {
    case 'Sequence': {
      const steps = config.normalizers.map((one, i) => buildNormalizer(one, `${field}.normalizers[${i}]`));
      return {
        apply: (text) => steps.reduce((changed, step) => bounded(step.apply(changed), text, field), text),
        hasPatterns: steps.some((step) => step.hasPatterns),
      };
    }
    case 'Replace': {
      const pattern = compilePattern(config.pattern, `${field}.pattern`);
      const { content } = config;
      return { apply: (text) => replaceAll(text, pattern, content, field), hasPatterns: true };
    }
    case 'Lowercase':
      return plain((text) => text.toLowerCase());
    case 'StripAccents':
      return plain((text) => text.replace(/\p{M}/gu, ''));
    case 'Strip': {
      const { strip_left: left, strip_right: right } = config;
      return plain((text) => {
        const start = left ? text.search(/\P{White_Space}/u) : 0;
        const kept = start === -1 ? '' : text.slice(start);
        return right ? kept.slice(0, lastInk(kept)) : kept;
      });
    }
    case 'Prepend': {
      const { prepend } = config;
      return plain((text) => (text === '' ? text : prepend + text));
    }
    default: {
      const { type } = config;
      return plain((text) => normalForm(text, type));
    }
  }
}

function plain(apply: (text: string) => string): Normalizer {
  return { apply, hasPatterns: false };
}

const WHITE = /\p{White_Space}/u;

function lastInk(text: string): number {
  let end = text.length;
  while (end > 0 && WHITE.test(text[end - 1] as string)) end--;
  return end;
}

// A pattern of a file could make any text grow without end.
const LARGEST_GROWTH = 16;
const FREE_GROWTH = 2 ** 20;

function bounded(changed: string, text: string, field: string): string {
  checkGrowth(changed.length, text, field);
  return changed;
}

function checkGrowth(length: number, text: string, field: string): void {
  if (length <= FREE_GROWTH + LARGEST_GROWTH * text.length) return;
  throw new TokenizerError(
    `${field} makes more than ${LARGEST_GROWTH} times as much of a text of ${text.length} characters: ` +
      'use the tokenizer.json that the model was published with.',
  );
}

function replaceAll(text: string, pattern: RegExp, content: string, field: string): string {
  let added = 0;
  return text.replace(pattern, () => {
    added += content.length;
    checkGrowth(added, text, field);
    return content;
  });
}

// Below this, no character changes under composition: Latin-1 and what follows it up to the first combining mark.
const FIRST_MARK = /[\u0300-\uffff]/;
const RUN = 1_024;
// A run of marks beyond this is cut: ordering marks takes the square of their number.
const MARKS = new RegExp(`\\p{M}{${RUN}}`, 'gu');

/** `text.normalize(form)`, in pieces where a run of combining marks has no end. */
function normalForm(text: string, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): string {
  if (form === 'NFC' && !FIRST_MARK.test(text)) return text;
  if (text.length < RUN) return text.normalize(form);
  const parts: string[] = [];
  let start = 0;
  for (const run of text.matchAll(MARKS)) {
    const end = run.index + run[0].length;
    parts.push(text.slice(start, end).normalize(form));
    start = end;
  }
  parts.push(text.slice(start).normalize(form));
  return parts.join('');
}
