import * as z from 'zod';
import { ConfigError, issuesText, TokenizerError } from '../errors.ts';
import { readJsonFile } from '../json.ts';
import { LARGEST_ID } from './bpe/vocabulary.ts';

const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const flags = { single_word: flag, lstrip: flag, rstrip: flag };
const special = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const normalized = z.boolean().nullish();

const tokenId = z.int().min(0).max(LARGEST_ID);
/** Looking for a token takes a time that grows with its length. */
const LONGEST_TOKEN = 256;
const LENGTH = `expected 1 to ${LONGEST_TOKEN} characters`;
const tokenText = z.string().min(1, LENGTH).max(LONGEST_TOKEN, LENGTH);
const tokenShape = { content: tokenText, ...flags, special, normalized };
const tokenFields = z.looseObject(tokenShape).transform(withNormalized);

/** As in Hugging Face tokenizers: ordinary tokens are looked for in normalized text, where nothing else is said. */
function withNormalized<T extends { special: boolean; normalized?: boolean | null | undefined }>(token: T) {
  return { ...token, normalized: token.normalized ?? !token.special };
}

/** A token without its id. */
export type TokenFields = z.output<typeof tokenFields>;

/** `added_tokens` of tokenizer.json. */
export const addedTokensSchema = z.array(
  z.looseObject({ id: tokenId, ...tokenShape }).transform(withNormalized),
);

/** A token named by role: its text, or with flags. */
const namedToken = z.union([z.string().max(LONGEST_TOKEN), tokenFields]);
const optionalToken = namedToken.nullish();
export type NamedToken = z.output<typeof namedToken>;

/** One chat template, or several, each under a name. */
export const templatesSchema = z.union([
  z.string(),
  z.array(z.looseObject({ name: z.string(), template: z.string() })),
  z.record(z.string(), z.string()),
]);

/** Roles that every tokenizer may name, in the order in which tokens without an id are numbered. */
export const ROLES = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'] as const;

const roleFields = {
  bos_token: optionalToken,
  eos_token: optionalToken,
  unk_token: optionalToken,
  sep_token: optionalToken,
  pad_token: optionalToken,
  cls_token: optionalToken,
  mask_token: optionalToken,
  additional_special_tokens: z.array(namedToken).nullish(),
  /** The newer name of the same; as a map, by role. */
  extra_special_tokens: z.union([z.array(namedToken), z.record(z.string(), namedToken)]).nullish(),
};

/** tokenizer_config.json, as far as it is used. Source: transformers `PreTrainedTokenizerBase.from_pretrained`. */
export const configSchema = z.looseObject({
  ...roleFields,
  tokenizer_class: z.string().nullish(),
  add_prefix_space: z.boolean().nullish(),
  split_special_tokens: z.boolean().nullish(),
  added_tokens_decoder: z
    .record(z.string().regex(/^\d{1,8}$/, 'expected a token id as its name'), tokenFields)
    .nullish(),
  chat_template: templatesSchema.nullish(),
  /** How answers are written; checked where it is used. */
  response_template: z.unknown().optional(),
});

export type TokenizerConfig = z.output<typeof configSchema>;

/** special_tokens_map.json */
export const specialTokensMapSchema = z.looseObject(roleFields);
const LENGTH_OF_NAME = `${LENGTH} as its name`;
const tokenName = z.string().min(1, LENGTH_OF_NAME).max(LONGEST_TOKEN, LENGTH_OF_NAME);
/** added_tokens.json */
export const addedTokensFileSchema = z.record(tokenName, tokenId);

/**
 * Reads a JSON file of settings and checks it; without the file, an empty object.
 *
 * @throws {TokenizerError} the file is too large or not JSON, or a field has the wrong type.
 */
export async function readSettings<T extends z.ZodType>(
  schema: T,
  path: string | undefined,
  name: string,
): Promise<z.output<T>> {
  const value = path === undefined ? {} : await readJson(path);
  return checkFile(schema, value, path ?? name);
}

async function readJson(path: string): Promise<unknown> {
  try {
    return await readJsonFile(path);
  } catch (error) {
    if (error instanceof ConfigError) throw new TokenizerError(error.message, { cause: error });
    throw error;
  }
}

/**
 * Checks parsed JSON against a schema.
 * @param at path of `value` in its file, such as `response_template`
 * @throws TokenizerError naming file, fields and values
 */
export function checkFile<T extends z.ZodType>(
  schema: T,
  value: unknown,
  file: string,
  at = '',
): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new TokenizerError(`${file}: ${issuesText(result.error.issues, value, at)}`);
}
