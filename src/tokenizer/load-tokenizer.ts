import * as z from 'zod';
import { TokenizerError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import type { AddedToken } from './bpe/added-tokens.ts';
import { BpeModel } from './bpe/bpe-model.ts';
import { BpeTokenizer } from './bpe/bpe-tokenizer.ts';
import { buildNormalizer, normalizerSchema } from './bpe/normalizer.ts';
import { postProcessorSchema, surroundingsOf } from './bpe/post-processor.ts';
import { buildPreTokenizer, preTokenizerSchema } from './bpe/pre-tokenizer.ts';
import type { ChatTemplate } from './chat-template.ts';
import { readChatTemplates } from './chat-template-files.ts';
import { qwen2TokenizerHead } from './qwen2-tokenizer.ts';
import { readTables, type TokenizerPaths } from './read-tables.ts';
import { builtInStyle, type ResponseStyle, responseTemplateSchema, styleOf } from './response/style.ts';
import { assembleAddedTokens, type NamedTokens, namedTokens, tokenText } from './special-tokens.ts';
import { Tokenizer } from './tokenizer.ts';
import {
  addedTokensFileSchema,
  addedTokensSchema,
  checkFile,
  configSchema,
  readSettings,
  specialTokensMapSchema,
  type TokenizerConfig,
} from './tokenizer-config.ts';

/**
 * Builds the tokenizer of a repo: from tokenizer.json, or from vocab.json and merges.txt as Qwen2's byte-level BPE;
 * with the settings of tokenizer_config.json (and of special_tokens_map.json and added_tokens.json, where that lists no
 * tokens), and its chat templates.
 *
 * Files are read a slice per turn of the event loop, one or two milliseconds each.
 *
 * @throws {TokenizerError} a file is missing or damaged; the message names file and field.
 */
export async function loadTokenizer(repo: Repo): Promise<Tokenizer> {
  const [paths, configPath] = await Promise.all([findTables(repo), repo.file('tokenizer_config.json')]);
  const config = await readSettings(configSchema, configPath, 'tokenizer_config.json');
  const [settings, chatTemplates] = await Promise.all([
    readTokenSettings(repo, config),
    readChatTemplates(repo, config, configPath),
  ]);
  const { named, listed } = settings;
  const file = 'tokenizerJson' in paths ? paths.tokenizerJson : paths.vocabJson;
  const { head: parsed, vocabulary, merges } = await readTables(paths);
  const head = checkFile(headSchema, 'tokenizerJson' in paths ? parsed : qwen2TokenizerHead(), file);
  const vocabSize = vocabulary.size;
  const addedTokens = assembleAddedTokens(
    vocabulary,
    head.added_tokens,
    listed,
    named,
    isQwen2(config),
    file,
  );
  const normalizer = buildNormalizer(head.normalizer, `${file}: normalizer`);
  const preTokenizer = buildPreTokenizer(
    head.pre_tokenizer,
    isQwen2(config) ? (config.add_prefix_space ?? false) : undefined,
    `${file}: pre_tokenizer`,
  );
  const model = new BpeModel(vocabulary, merges, modelSettings(head.model, preTokenizer.isByteLevel), file);
  const surroundings = surroundingsOf(head.post_processor, `${file}: post_processor`);
  return new Tokenizer({
    bpe: new BpeTokenizer({ vocabulary, addedTokens, normalizer, preTokenizer, model, surroundings, file }),
    vocabSize,
    addedTokens,
    names: new Map([...named.roles].map(([role, token]) => [role, tokenText(token)])),
    additionalSpecialTokens: named.further.map(tokenText),
    splitSpecialTokens: config.split_special_tokens ?? false,
    chatTemplates,
    responseStyle: responseStyleOf(config, configPath, chatTemplates),
    source: repo.id,
  });
}

/** Read when an answer is first taken apart: a repo whose words we do not follow is of use without. */
function responseStyleOf(
  { response_template: template }: TokenizerConfig,
  path: string | undefined,
  chatTemplates: ReadonlyMap<string, ChatTemplate>,
): () => ResponseStyle {
  let style: ResponseStyle | undefined;
  const file = path ?? 'tokenizer_config.json';
  const read = () => {
    if (template === undefined || template === null)
      return builtInStyle([...chatTemplates.values()].map(({ source }) => source).join('\n'));
    return styleOf(checkFile(responseTemplateSchema, template, file, 'response_template'), file);
  };
  return () => {
    style ??= read();
    return style;
  };
}

/** vocab.json and merges.txt are fetched only where tokenizer.json is missing. */
async function findTables(repo: Repo): Promise<TokenizerPaths> {
  const tokenizerJson = await repo.file('tokenizer.json');
  if (tokenizerJson !== undefined) return { tokenizerJson };
  const [vocabJson, mergesTxt] = await Promise.all([repo.file('vocab.json'), repo.file('merges.txt')]);
  if (vocabJson !== undefined && mergesTxt !== undefined) return { vocabJson, mergesTxt };
  const missing = [vocabJson === undefined && 'vocab.json', mergesTxt === undefined && 'merges.txt'].filter(
    Boolean,
  );
  throw new TokenizerError(
    `${repo.id} has no tokenizer: tokenizer.json is missing, and of its replacement ${missing.join(' and ')}. ` +
      'Models can be run without one on raw token ids.',
  );
}

interface TokenSettings {
  readonly named: NamedTokens;
  /** Tokens with their ids, as settings list them. */
  readonly listed: readonly AddedToken[];
}

/**
 * Names and ids of tokens. Older repos keep them in special_tokens_map.json and added_tokens.json, which count where
 * tokenizer_config.json lists no `added_tokens_decoder`.
 */
async function readTokenSettings(repo: Repo, config: TokenizerConfig): Promise<TokenSettings> {
  const decoder = config.added_tokens_decoder;
  if (decoder !== undefined && decoder !== null) {
    const listed = Object.entries(decoder).map(([id, token]) => ({ ...token, id: Number(id) }));
    return { named: namedTokens(config), listed: listed.sort((a, b) => a.id - b.id) };
  }
  const [mapPath, addedPath] = await Promise.all([
    repo.file('special_tokens_map.json'),
    repo.file('added_tokens.json'),
  ]);
  const [map, added] = await Promise.all([
    readSettings(specialTokensMapSchema, mapPath, 'special_tokens_map.json'),
    readSettings(addedTokensFileSchema, addedPath, 'added_tokens.json'),
  ]);
  const given = Object.fromEntries(Object.entries(map).filter(([, value]) => isGiven(value)));
  const own = namedTokens(config);
  const { roles } = namedTokens({ ...config, ...given });
  const further = [...own.further, ...namedTokens(map).further];
  const special = new Set([...roles.values(), ...further].map(tokenText));
  const listed = Object.entries(added).map(([content, id]) => {
    const isSpecial = special.has(content);
    return {
      id,
      content,
      special: isSpecial,
      normalized: !isSpecial,
      single_word: false,
      lstrip: false,
      rstrip: false,
    };
  });
  return { named: { roles, further }, listed };
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

const byteLevelDecoder = z.looseObject({ type: z.literal('ByteLevel') });
const decoderSchema = z.union(
  [byteLevelDecoder, z.looseObject({ type: z.literal('Sequence'), decoders: z.tuple([byteLevelDecoder]) })],
  'only the decoder ByteLevel is supported, which is what Qwen models use',
);

const headSchema = z.looseObject({
  added_tokens: addedTokensSchema.nullish().transform((tokens) => tokens ?? []),
  normalizer: normalizerSchema.nullish(),
  pre_tokenizer: preTokenizerSchema.nullish(),
  post_processor: postProcessorSchema.nullish(),
  decoder: decoderSchema,
  model: z.looseObject({
    type: z.literal('BPE', 'only BPE tokenizers are supported, which is what Qwen models use').nullish(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.literal('', 'only an empty one is supported').nullish(),
    end_of_word_suffix: z.literal('', 'only an empty one is supported').nullish(),
    fuse_unk: z.boolean().nullish(),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
  }),
});

/**
 * Whether transformers makes a `Qwen2Tokenizer` of the files. That class goes by its settings alone in whether pieces get
 * a space before them, and its special tokens never take the white space around them.
 */
function isQwen2({ tokenizer_class: name }: TokenizerConfig): boolean {
  return name === undefined || name === null || /^Qwen2Tokenizer(Fast)?$/.test(name);
}

function modelSettings(model: z.output<typeof headSchema>['model'], isByteLevel: boolean) {
  return {
    unkToken: model.unk_token ?? undefined,
    fuseUnk: model.fuse_unk ?? false,
    byteFallback: model.byte_fallback ?? false,
    ignoreMerges: model.ignore_merges ?? false,
    isByteLevel,
  };
}
