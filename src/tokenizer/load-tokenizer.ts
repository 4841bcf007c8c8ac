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
  checkFile,
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
  const names = [
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.json',
    'merges.txt',
    'chat_template.jinja',
    'chat_template.json',
  ] as const;
  const [json, configPath, vocab, merges, jinja, templateJson] = await Promise.all(
    names.map((name) => repo.file(name)),
  );
  const config = await readTokenizerConfig(configPath);
  const paths = choosePaths(repo, json, vocab, merges);
  const built = await buildBpe(paths, config);
  return new Tokenizer({
    ...built,
    names: { bos: config.bos_token, eos: config.eos_token, pad: config.pad_token, unk: config.unk_token },
    additionalSpecialTokens: config.additional_special_tokens ?? [],
    cleanUpTokenizationSpaces: config.clean_up_tokenization_spaces ?? false,
    chatTemplates: await readChatTemplates(config, configPath, jinja, templateJson),
    source: repo.id,
  });
}

function choosePaths(repo: Repo, json?: string, vocab?: string, merges?: string): TokenizerPaths {
  if (json !== undefined) return { tokenizerJson: json };
  if (vocab !== undefined && merges !== undefined) return { vocabJson: vocab, mergesTxt: merges };
  const missing = [vocab === undefined && 'vocab.json', merges === undefined && 'merges.txt'].filter(Boolean);
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
    const bpe = constructBpe({ ...head, added_tokens: addedTokens }, config, placeOf(paths));
    const tables = bpe.model as unknown as BpeTables & { unk_token?: string; unk_token_id?: number };
    await fillBpeTables(
      tables,
      files,
      'tokenizerJson' in paths ? `${paths.tokenizerJson}: model.vocab` : paths.vocabJson,
    );
    // Added tokens come last, so that they win over the vocabulary.
    for (const token of addedTokens) {
      tables.tokens_to_ids.set(token.content, token.id);
      tables.vocab[token.id] = token.content;
    }
    if (tables.unk_token) tables.unk_token_id = tables.tokens_to_ids.get(tables.unk_token) as number;
    return { bpe, vocabSize: files.vocabCount ?? 0, fullVocabSize: tables.tokens_to_ids.size, addedTokens };
  } finally {
    await files.close();
  }
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
    ...(config.additional_special_tokens ?? []),
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
    additional_special_tokens: config.additional_special_tokens ?? [],
  };
  try {
    return new BpeTokenizer({ ...head, normalizer, pre_tokenizer, post_processor, decoder, model }, settings);
  } catch (error) {
    throw new TokenizerError(
      `${place} describes a tokenizer that cannot be built: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

const placeOf = (paths: TokenizerPaths) => ('tokenizerJson' in paths ? paths.tokenizerJson : paths.vocabJson);

async function readChatTemplates(
  config: TokenizerConfig,
  configPath: string | undefined,
  jinja: string | undefined,
  templateJson: string | undefined,
): Promise<Map<string, ChatTemplate>> {
  if (jinja !== undefined)
    return new Map([['default', new ChatTemplate(await readFile(jinja, 'utf8'), jinja)]]);
  if (config.chat_template) return templatesOf(config.chat_template, configPath ?? 'tokenizer_config.json');
  if (templateJson === undefined) return new Map();
  const schema = z.looseObject({ chat_template: z.union([z.string(), namedTemplates]) });
  return templatesOf(
    checkFile(schema, await readJson(templateJson), templateJson).chat_template,
    templateJson,
  );
}

const namedTemplates = z.array(z.looseObject({ name: z.string(), template: z.string() }));

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
