import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import { show, TokenizerError } from '../errors.ts';

/** A token that is recognised in text as a whole, before any splitting. */
export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  normalized: boolean;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
}

const flags = {
  special: z.boolean().default(false),
  normalized: z.boolean().default(false),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
};
// Ids index an array; anything larger is damage.
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 24);
const tokenText = z.union([z.string(), z.looseObject({ content: z.string() }).transform((t) => t.content)]);
const optionalToken = tokenText.nullish().transform((text) => text ?? undefined);

/** `added_tokens` of tokenizer.json. */
export const addedTokensSchema = z.array(
  z.looseObject({ id: tokenId, content: z.string().min(1), ...flags }),
);

/** Several chat templates, each under a name. */
export const namedTemplates = z.array(z.looseObject({ name: z.string(), template: z.string() }));

/** tokenizer_config.json, as far as it is used. Source: transformers `PreTrainedTokenizerBase.from_pretrained`. */
const configSchema = z.looseObject({
  bos_token: optionalToken,
  eos_token: optionalToken,
  pad_token: optionalToken,
  unk_token: optionalToken,
  additional_special_tokens: z.array(tokenText).nullish(),
  /** The newer name of the same; as a map, by role. */
  extra_special_tokens: z.union([z.array(tokenText), z.record(z.string(), tokenText)]).nullish(),
  clean_up_tokenization_spaces: z.boolean().nullish(),
  added_tokens_decoder: z
    .record(z.string().regex(/^\d{1,8}$/), z.looseObject({ content: z.string().min(1), ...flags }))
    .nullish(),
  chat_template: z.union([z.string(), namedTemplates]).nullish(),
});

export type TokenizerConfig = z.output<typeof configSchema>;

/**
 * Reads tokenizer_config.json; without the file, an empty configuration.
 *
 * @throws {TokenizerError} the file is not JSON, or a field has the wrong type.
 */
export async function readTokenizerConfig(path: string | undefined): Promise<TokenizerConfig> {
  return checkFile(
    configSchema,
    path === undefined ? {} : await readJson(path),
    path ?? 'tokenizer_config.json',
  );
}

/** The added tokens that tokenizer_config.json lists by id. */
export function addedTokensOf(config: TokenizerConfig): AddedToken[] {
  return Object.entries(config.added_tokens_decoder ?? {}).map(([id, token]) => ({
    ...token,
    id: Number(id),
  }));
}

/** Special tokens that tokenizer_config.json names beside those with a role. */
export function additionalTokensOf(config: TokenizerConfig): string[] {
  return [...(config.additional_special_tokens ?? []), ...Object.values(config.extra_special_tokens ?? {})];
}

/** Reads a JSON file whole. */
export async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8');
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw new TokenizerError(`${path} is not valid JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** Checks parsed JSON against a schema; the message names file, field and value. */
export function checkFile<T extends z.ZodType>(schema: T, value: unknown, file: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  const path = issue.path.map(String).join('.');
  const found = issue.path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  );
  throw new TokenizerError(`${file}: ${path || 'the content'} is ${show(found)}. ${issue.message}`);
}
