import { readFile } from 'node:fs/promises';
import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers';
import * as z from 'zod';
import { show, TokenizerError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { type BpeTables, fillBpeTables } from './bpe-tables.ts';
import { ChatTemplate } from './chat-template.ts';
import { qwen2TokenizerHead } from './qwen2-tokenizer.ts';
import { Tokenizer, type TokenizerParts } from './tokenizer.ts';
import {
  type AddedToken,
  addedTokensOf,
  addedTokensSchema,
  additionalTokensOf,
  checkFile,
  namedTemplates,
  readJson,
  readTokenizerConfig,
  type TokenizerConfig,
} from './tokenizer-config.ts';
import { openTokenizerFiles, type TokenizerFiles, type TokenizerPaths } from './tokenizer-files.ts';

/**
 * Builds the tokenizer of a repo: from tokenizer.json, or from vocab.json and merges.txt as Qwen2's byte-level BPE;
 * with tokenizer_config.json and the chat template of chat_template.jinja, else tokenizer_config.json, else
 * chat_template.json.
 *
 * Files are parsed in a worker thread and the tables of a full-size vocabulary (151,643 tokens) are filled a slice per
 * turn of the event loop, one or two milliseconds each, instead of the 0.8 s that parsing and construction take in one go.
 *
 * @throws {TokenizerError} a file is missing or damaged; the message names file and field.
 */
export async function loadTokenizer(repo: Repo): Promise<Tokenizer> {
  const [paths, configPath] = await Promise.all([findTables(repo), repo.file('tokenizer_config.json')]);
  const config = await readTokenizerConfig(configPath);
  const [built, chatTemplates] = await Promise.all([
    buildBpe(paths, config),
    readChatTemplates(repo, config, configPath),
  ]);
  return new Tokenizer({
    ...built,
    names: { bos: config.bos_token, eos: config.eos_token, pad: config.pad_token, unk: config.unk_token },
    additionalSpecialTokens: additionalTokensOf(config),
    cleanUpTokenizationSpaces: config.clean_up_tokenization_spaces ?? false,
    chatTemplates,
    source: repo.id,
  });
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

type BuiltBpe = Pick<TokenizerParts, 'bpe' | 'vocabSize' | 'fullVocabSize' | 'addedTokens'>;

async function buildBpe(paths: TokenizerPaths, config: TokenizerConfig): Promise<BuiltBpe> {
  const files = await openTokenizerFiles(paths);
  try {
    const head =
      'tokenizerJson' in paths ? readHead(files, paths.tokenizerJson) : readQwen2Head(files, config);
    const addedTokens = joinAddedTokens(head.added_tokens, addedTokensOf(config));
    const place = 'tokenizerJson' in paths ? paths.tokenizerJson : paths.vocabJson;
    const bpe = constructBpe({ ...head, added_tokens: addedTokens }, config, place);
    const tables = bpe.model as unknown as BpeTables & { unk_token?: string; unk_token_id?: number };
    await fillBpeTables(tables, files, 'tokenizerJson' in paths ? `${place}: model.vocab` : place);
    for (const token of addedTokens) placeAddedToken(tables, token, place);
    if (tables.unk_token) tables.unk_token_id = tables.tokens_to_ids.get(tables.unk_token) as number;
    return { bpe, vocabSize: files.vocabCount ?? 0, fullVocabSize: tables.tokens_to_ids.size, addedTokens };
  } finally {
    await files.close();
  }
}

function placeAddedToken(tables: BpeTables, { id, content }: AddedToken, file: string): void {
  const holder = tables.vocab[id];
  if (holder !== undefined && holder !== content) {
    throw new TokenizerError(
      `${file}: the added token ${show(content)} has the id ${id}, which belongs to ${show(holder)}.`,
    );
  }
  tables.tokens_to_ids.set(content, id);
  tables.vocab[id] = content;
}

const headSchema = z.looseObject({
  added_tokens: addedTokensSchema.nullish().transform((tokens) => tokens ?? []),
  normalizer: z.looseObject({}).nullish(),
  pre_tokenizer: z.looseObject({}).nullish(),
  post_processor: z.looseObject({}).nullish(),
  decoder: z.looseObject({}).nullish(),
  model: z.looseObject({
    type: z
      .literal('BPE', 'Only BPE tokenizers are supported, which is what Qwen models use.')
      .default('BPE'),
    unk_token: z.string().nullish(),
  }),
});

type Head = z.output<typeof headSchema>;

function readHead(files: TokenizerFiles, path: string): Head {
  const head = checkFile(headSchema, files.head, path);
  if (files.vocabCount === undefined)
    throw new TokenizerError(`${path}: model.vocab must be an object of token → id.`);
  if (files.mergeCount === undefined)
    throw new TokenizerError(`${path}: model.merges must be a list of merges.`);
  return head;
}

function readQwen2Head(files: TokenizerFiles, config: TokenizerConfig): Head {
  const listed = addedTokensOf(config);
  // Without a list, the tokens that tokenizer_config.json names by role follow the vocabulary.
  const first = files.vocabCount ?? 0;
  const roles = new Set([
    config.eos_token,
    config.pad_token,
    config.bos_token,
    ...additionalTokensOf(config),
  ]);
  roles.delete(undefined);
  const added = [...roles].map((content, i) => ({ id: first + i, content, special: true }));
  return checkFile(
    headSchema,
    qwen2TokenizerHead(listed.length > 0 ? listed : (added as AddedToken[])),
    'tokenizer_config.json',
  );
}

/** tokenizer.json's added tokens, then those that only tokenizer_config.json knows. */
function joinAddedTokens(own: Head['added_tokens'], further: readonly AddedToken[]): Head['added_tokens'] {
  const known = new Set(own.map((token) => token.content));
  return [...own, ...further.filter((token) => !known.has(token.content)).map((token) => ({ ...token }))];
}

/** The library's tokenizer with empty tables, which are filled afterwards. */
function constructBpe(head: Head, config: TokenizerConfig, place: string): BpeTokenizer {
  const { normalizer = null, pre_tokenizer = null, post_processor = null, decoder = null } = head;
  const model = { ...head.model, vocab: {}, merges: [] };
  const settings = {
    clean_up_tokenization_spaces: config.clean_up_tokenization_spaces ?? false,
    additional_special_tokens: additionalTokensOf(config),
  };
  try {
    return new BpeTokenizer({ ...head, normalizer, pre_tokenizer, post_processor, decoder, model }, settings);
  } catch (error) {
    const reason = (error as Error).message;
    throw new TokenizerError(`${place} describes a tokenizer that cannot be built: ${reason}`, {
      cause: error,
    });
  }
}

async function readChatTemplates(
  repo: Repo,
  config: TokenizerConfig,
  configPath: string | undefined,
): Promise<Map<string, ChatTemplate>> {
  const jinja = await repo.file('chat_template.jinja');
  if (jinja !== undefined) return templatesOf(await readFile(jinja, 'utf8'), jinja);
  if (config.chat_template) return templatesOf(config.chat_template, configPath ?? 'tokenizer_config.json');
  const json = await repo.file('chat_template.json');
  if (json === undefined) return new Map();
  const schema = z.looseObject({ chat_template: z.union([z.string(), namedTemplates]) });
  return templatesOf(checkFile(schema, await readJson(json), json).chat_template, json);
}

function templatesOf(
  value: string | z.output<typeof namedTemplates>,
  file: string,
): Map<string, ChatTemplate> {
  if (typeof value === 'string') return new Map([['default', new ChatTemplate(value, file)]]);
  const templates = value.map(
    ({ name, template }) => [name, new ChatTemplate(template, `${file} (${show(name)})`)] as const,
  );
  return new Map(templates);
}
