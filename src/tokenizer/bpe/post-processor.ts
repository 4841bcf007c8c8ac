import * as z from 'zod';
import { expected, TokenizerError } from '../../errors.ts';

const pieceSchema = z.union(
  [
    z.strictObject({ SpecialToken: z.looseObject({ id: z.string() }) }),
    z.strictObject({ Sequence: z.looseObject({ id: z.string() }) }),
  ],
  'expected { SpecialToken: { id } } or { Sequence: { id } }',
);
const byteLevelSchema = z.looseObject({ type: z.literal('ByteLevel') });
const templateSchema = z.looseObject({
  type: z.literal('TemplateProcessing'),
  single: z.array(pieceSchema),
  special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(z.int().min(0)) })).default({}),
});
type PostProcessorConfig =
  | z.output<typeof byteLevelSchema | typeof templateSchema>
  | { type: 'Sequence'; processors: PostProcessorConfig[] };

/** `post_processor` of tokenizer.json, as far as byte-pair tokenizers use it. */
export const postProcessorSchema: z.ZodType<PostProcessorConfig> = z.lazy(() =>
  z.discriminatedUnion('type', [
    byteLevelSchema,
    templateSchema,
    z.looseObject({ type: z.literal('Sequence'), processors: z.array(postProcessorSchema) }) as never,
  ]),
);

/** Ids that stand around those of a text where special tokens are asked for. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** @param field names the post-processor in messages */
export function surroundingsOf(config: PostProcessorConfig | null | undefined, field: string): Surroundings {
  if (config === null || config === undefined || config.type === 'ByteLevel')
    return { before: [], after: [] };
  if (config.type === 'Sequence') {
    return config.processors
      .map((one, i) => surroundingsOf(one, `${field}.processors[${i}]`))
      .reduce(
        (inner, outer) => ({
          before: [...outer.before, ...inner.before],
          after: [...inner.after, ...outer.after],
        }),
        { before: [], after: [] } as Surroundings,
      );
  }
  const at = config.single.findIndex((piece) => 'Sequence' in piece);
  const idsOf = (pieces: typeof config.single): number[] =>
    pieces.flatMap((piece) => {
      const name = 'SpecialToken' in piece ? piece.SpecialToken.id : undefined;
      const token = name === undefined ? undefined : config.special_tokens[name];
      if (token !== undefined) return token.ids;
      throw new TokenizerError(
        expected(`${field}.single`, config.single, 'one Sequence, and tokens of special_tokens'),
      );
    });
  if (at === -1) throw new TokenizerError(`${field}.single has no Sequence, which stands for the text.`);
  return { before: idsOf(config.single.slice(0, at)), after: idsOf(config.single.slice(at + 1)) };
}
