import { setImmediate as turn } from 'node:timers/promises';
import { abortIf, expected, InputError, show, TokenizerError } from '../errors.ts';
import { checkOpenOptions, checkOptions, noMore } from '../options.ts';
import type { AddedToken } from './bpe/added-tokens.ts';
import type { BpeTokenizer } from './bpe/bpe-tokenizer.ts';
import type { ChatTemplate } from './chat-template.ts';
import { type ChatMessage, checkMessages, checkObjects, forTemplate, renderOpen } from './conversation.ts';
import { Detokenizer } from './detokenizer.ts';
import {
  endsReasoning,
  type ParsedResponse,
  type ParseResponseOptions,
  ResponseParser,
} from './response/parser.ts';
import type { ResponseStyle } from './response/style.ts';

/** Token ids of one or more texts. Rows are equally long unless `padding` is false. */
export interface TokenizedBatch {
  /** [rows, tokens] */
  inputIds: number[][];
  /** [rows, tokens]; 1 for a token, 0 for padding, which stands on the left. */
  attentionMask: number[][];
}

export interface TokenizeOptions {
  /** Lets the tokenizer add its start or end tokens (Qwen's has none). Default true. */
  addSpecialTokens?: boolean;
  /** Pads shorter rows on the left with the pad token. Default true. */
  padding?: boolean;
  /**
   * Takes special tokens written out in the text (`<|im_end|>`) for ordinary letters, as is wanted for text from
   * strangers. Default: what tokenizer_config.json says, else false.
   */
  splitSpecialTokens?: boolean;
}

/** Options of encoding one text. */
export type EncodeOptions = Omit<TokenizeOptions, 'padding'>;

export interface DecodeOptions {
  /** Leaves out special tokens such as `<|im_end|>`. Default false. */
  skipSpecialTokens?: boolean;
  /**
   * What to do with an id that no token has. Models often have a few more ids than their tokenizer. Default `error`;
   * streaming and stop strings use `skip`.
   */
  unknownIds?: 'error' | 'skip';
}

/** Options of `applyChatTemplate`; every other field is a variable of the template, such as `enable_thinking`. */
export interface ChatTemplateOptions {
  /** Tool descriptions (JSON schema objects) the model may call. */
  tools?: readonly unknown[] | undefined;
  documents?: readonly unknown[] | undefined;
  /** Ends with the opening of an assistant turn. Default false. */
  addGenerationPrompt?: boolean | undefined;
  /** Leaves the last message open, for the model to go on with. Default false. */
  continueFinalMessage?: boolean | undefined;
  /** False returns the text. Default true: the text is encoded, without adding special tokens. */
  tokenize?: boolean | undefined;
  /** The name of one of the tokenizer's templates. Default `tool_use` with tools, where there is one, else `default`. */
  chatTemplate?: string | undefined;
  [templateArgument: string]: unknown;
}

const TOKENIZE_OPTIONS = [
  'addSpecialTokens',
  'padding',
  'splitSpecialTokens',
] as const satisfies readonly (keyof TokenizeOptions)[];
const DECODE_OPTIONS = [
  'skipSpecialTokens',
  'unknownIds',
] as const satisfies readonly (keyof DecodeOptions)[];
const PARSE_OPTIONS = ['prompt', 'tools'] as const satisfies readonly (keyof ParseResponseOptions)[];
const CHAT_OPTIONS = [
  ...['tools', 'documents', 'addGenerationPrompt', 'continueFinalMessage', 'tokenize', 'chatTemplate'],
];

/** What a tokenizer is made of; `loadTokenizer` puts it together. */
export interface TokenizerParts {
  bpe: BpeTokenizer;
  /** Size of the vocabulary without added tokens. */
  vocabSize: number;
  addedTokens: readonly AddedToken[];
  /** Texts of special tokens by role (`eos_token`). */
  names: ReadonlyMap<string, string>;
  /** Further special tokens (`extra_special_tokens`). */
  additionalSpecialTokens: readonly string[];
  splitSpecialTokens: boolean;
  /** By name; a single template is called `default`. */
  chatTemplates: ReadonlyMap<string, ChatTemplate>;
  /** How the model writes its answers. @throws TokenizerError where the repo says it in words that are not followed */
  responseStyle: () => ResponseStyle;
  /** The id or folder, for messages. */
  source: string;
}

// Milliseconds of work between two turns of the event loop.
const WORK_PER_TURN = 8;

/** `tokenizer(text)` encodes, as `__call__` does in transformers. */
export type TokenizerCall = (
  text: string | readonly string[],
  options?: TokenizeOptions,
  ...more: never[]
) => TokenizedBatch;

// Instances are functions: a constructor may return any object, and the fields of a derived class land on it.
const CallableTokenizer = class {
  constructor() {
    const self: Tokenizer = Object.setPrototypeOf(
      (text: string | readonly string[], options?: TokenizeOptions, ...more: never[]) => {
        noMore(more, 'tokenizer', 'several texts go into one list');
        return self.encodeBatch(text, options);
      },
      new.target.prototype,
    );
    // biome-ignore lint/correctness/noConstructorReturn: this is what makes the instance callable.
    return self;
  }
} as unknown as new () => TokenizerCall;

/**
 * Text to token ids and back. Callable: `tokenizer('text')` or `tokenizer(['one', 'two'])`.
 * Mirrors transformers' `PreTrainedTokenizerFast`; made by `loadTokenizer`.
 */
export class Tokenizer extends CallableTokenizer {
  readonly #parts: TokenizerParts;
  readonly #specialIds: ReadonlySet<number>;
  /** Added tokens (special ones and others) and their ids. */
  readonly addedTokens: ReadonlyMap<string, number>;
  /** Texts of the special tokens, in order of id. */
  readonly specialTokens: readonly string[];
  /** Size of the vocabulary without added tokens, as transformers' `vocab_size`. */
  readonly vocabSize: number;
  /** Size of the vocabulary with added tokens, as `len(tokenizer)` in transformers. */
  readonly fullVocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;

  constructor(parts: TokenizerParts) {
    super();
    this.#parts = parts;
    const { names, addedTokens, bpe } = parts;
    this.addedTokens = new Map(addedTokens.map((token) => [token.content, token.id]));
    const special = addedTokens.filter((token) => token.special);
    this.#specialIds = new Set(special.map((token) => token.id));
    this.specialTokens = special.map((token) => token.content);
    this.vocabSize = parts.vocabSize;
    this.fullVocabSize = bpe.vocabulary.size;
    this.bosTokenId = this.#idOf(names.get('bos_token'));
    this.eosTokenId = this.#idOf(names.get('eos_token'));
    this.padTokenId = this.#idOf(names.get('pad_token'));
  }

  /** The id of a token given as it stands in the vocabulary (`Ġthe`, `<|im_end|>`), or undefined. */
  tokenToId(token: string): number | undefined {
    return this.#parts.bpe.vocabulary.id(token);
  }

  /** The token with this id as it stands in the vocabulary, or undefined. */
  idToToken(id: number): string | undefined {
    return this.#parts.bpe.vocabulary.token(id);
  }

  /**
   * The bytes a token stands for, which may be part of a character; of a special token those of its text. Undefined for an id that no
   * token has.
   */
  tokenBytes(id: number): Uint8Array | undefined {
    return this.#parts.bpe.bytesOf(id);
  }

  /**
   * Token ids of one text. Special tokens written out in the text become their ids, as in transformers, unless
   * `splitSpecialTokens` is set.
   *
   * @throws {InputError} `text` is not a string.
   * @throws {TokenizerError} a pattern of the tokenizer's file takes too long on the text.
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const ids: number[] = [];
    checkOptions(options, TOKENIZE_OPTIONS, 'encode');
    for (const _ of this.#encoding(text, options, ids));
    return ids;
  }

  /**
   * As `encode`, for long texts: the event loop turns every few milliseconds.
   *
   * @throws {AbortError} the signal was aborted.
   */
  async encodeAsync(text: string, options: EncodeOptions & { signal?: AbortSignal } = {}): Promise<number[]> {
    const ids: number[] = [];
    checkOptions(options, [...TOKENIZE_OPTIONS, 'signal'], 'encodeAsync');
    abortIf(options.signal, 'encoding a text');
    let since = performance.now();
    for (const _ of this.#encoding(text, options, ids)) {
      if (performance.now() - since < WORK_PER_TURN) continue;
      await turn();
      abortIf(options.signal, 'encoding a text');
      since = performance.now();
    }
    return ids;
  }

  /**
   * Token ids of one or several texts, padded on the left to one length. Calling the tokenizer does the same.
   *
   * @throws {InputError} a text is not a string, the list is empty, or padding is needed and there is no pad token.
   */
  encodeBatch(text: string | readonly string[], options: TokenizeOptions = {}): TokenizedBatch {
    checkOptions(options, TOKENIZE_OPTIONS, 'tokenizer');
    const texts = typeof text === 'string' ? [text] : text;
    if (!Array.isArray(texts) || texts.length === 0) {
      throw new InputError(expected('The text to encode', text, 'a text or a list of texts'));
    }
    const rows = texts.map((one: string) => this.encode(one, options));
    return options.padding === false ? withoutPadding(rows) : this.pad(rows);
  }

  /**
   * Pads rows of ids on the left to one length.
   *
   * @throws {InputError} rows differ in length and there is no pad token.
   */
  pad(rows: readonly (readonly number[])[]): TokenizedBatch {
    const width = rows.reduce((most, row) => Math.max(most, row.length), 0);
    if (rows.every((row) => row.length === width)) return withoutPadding(rows);
    const padId = this.padTokenId;
    if (padId === undefined) {
      throw new InputError(
        `The tokenizer of ${this.#parts.source} has no pad token, so texts of different length need padding: false.`,
      );
    }
    const fill = (row: readonly number[], value: number) => new Array<number>(width - row.length).fill(value);
    return {
      inputIds: rows.map((row) => [...fill(row, padId), ...row]),
      attentionMask: rows.map((row) => [...fill(row, 0), ...row.map(() => 1)]),
    };
  }

  /**
   * Text of a sequence of ids. Bytes that are no UTF-8 become U+FFFD.
   *
   * @throws {InputError} an id is not an integer from 0 up, or no token has it and `unknownIds` is not `skip`.
   */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    checkOptions(options, DECODE_OPTIONS, 'decode');
    if (!Array.isArray(ids)) throw new InputError(expected('decode: ids', ids, 'a list of token ids'));
    const skip = options.skipSpecialTokens ? this.#specialIds : undefined;
    const parts: Uint8Array[] = [];
    for (const id of this.#knownIds(ids, options.unknownIds ?? 'error')) {
      if (!skip?.has(id)) parts.push(this.#parts.bpe.bytesOf(id) as Uint8Array);
    }
    return Buffer.concat(parts).toString('utf8');
  }

  /** `decode` of each row. */
  batchDecode(rows: readonly (readonly number[])[], options: DecodeOptions = {}): string[] {
    return rows.map((row) => this.decode(row, options));
  }

  /** Decodes a growing sequence id by id; see `Detokenizer`. Ids that no token has add no text. */
  detokenizer(options: Pick<DecodeOptions, 'skipSpecialTokens'> = {}): Detokenizer {
    checkOptions(options, ['skipSpecialTokens'], 'detokenizer');
    const skip = options.skipSpecialTokens ? this.#specialIds : undefined;
    return new Detokenizer((id) => (skip?.has(id) ? undefined : this.#parts.bpe.bytesOf(id)));
  }

  /**
   * Takes an answer apart: its reasoning, its text, and the functions it calls, with arguments of the types that the functions' schemas name.
   * Counterpart of transformers' `parse_response`; the result is a message that `applyChatTemplate` takes back.
   *
   * @param response the text that was generated, or its ids; special tokens may be in it
   * @throws {InputError} the response is neither, or an option has the wrong type.
   */
  parseResponse(response: string | readonly number[], options: ParseResponseOptions = {}): ParsedResponse {
    if (typeof response !== 'string' && !Array.isArray(response))
      throw new InputError(
        expected('parseResponse: the response', response, 'a text or a list of token ids'),
      );
    const text = typeof response === 'string' ? response : this.decode(response, { unknownIds: 'skip' });
    const parser = this.responseParser(options);
    const style = this.#parts.responseStyle();
    if (options.prompt === undefined && endsReasoning(text, style)) parser.push(style.reasoning?.open ?? '');
    parser.push(text);
    parser.end();
    return parser.message;
  }

  /**
   * Takes an answer apart piece by piece, as it is generated.
   * @throws {InputError} an option has the wrong type.
   */
  responseParser(options: ParseResponseOptions = {}): ResponseParser {
    const { prompt, tools } = checkOptions(options, PARSE_OPTIONS, 'parseResponse');
    if (prompt !== undefined && typeof prompt !== 'string')
      throw new InputError(expected('parseResponse: prompt', prompt, 'the text that was continued'));
    checkObjects(tools, 'tools');
    return new ResponseParser(this.#parts.responseStyle(), options);
  }

  /** How the model writes reasoning and calls. @internal */
  get responseStyle(): ResponseStyle {
    return this.#parts.responseStyle();
  }

  /** Whether the token is no text, such as the end of a turn. @internal */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /**
   * Lays out a conversation with the checkpoint's chat template, and encodes it (one row) unless `tokenize` is false.
   *
   * @throws {InputError} `messages` is not a list of objects, or options contradict each other.
   * @throws {TokenizerError} there is no template, or it fails on or refuses the conversation.
   */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions & { tokenize: false },
  ): string;
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ChatTemplateOptions & { tokenize?: true | undefined },
  ): TokenizedBatch;
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string | TokenizedBatch;
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions = {},
  ): string | TokenizedBatch {
    const { tools, documents, addGenerationPrompt, continueFinalMessage, tokenize, chatTemplate, ...rest } =
      checkOpenOptions(options, CHAT_OPTIONS, 'applyChatTemplate');
    checkMessages(messages);
    if (addGenerationPrompt && continueFinalMessage) {
      throw new InputError(
        'addGenerationPrompt and continueFinalMessage exclude each other: set one of them.',
      );
    }
    checkObjects(tools, 'tools');
    checkObjects(documents, 'documents');
    const template = this.#template(chatTemplate, tools);
    const variables = {
      ...Object.fromEntries(this.#parts.names),
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt ?? false,
      ...rest,
    };
    const render = (turns: readonly ChatMessage[]) => template.render({ ...variables, messages: turns });
    const turns = forTemplate(messages, template, variables);
    const text = continueFinalMessage ? renderOpen(turns, render) : render(turns);
    return tokenize === false ? text : this.encodeBatch(text, { addSpecialTokens: false });
  }

  #idOf(token: string | undefined): number | undefined {
    return token === undefined ? undefined : this.tokenToId(token);
  }

  #knownIds(ids: readonly number[], unknownIds: 'error' | 'skip'): number[] {
    return ids.filter((id, position) => {
      if (!Number.isInteger(id) || id < 0) {
        throw new InputError(expected(`Position ${position} of the ids`, id, 'a whole number from 0 up'));
      }
      if (this.idToToken(id) !== undefined) return true;
      if (unknownIds === 'skip') return false;
      throw new InputError(
        `No token of ${this.#parts.source} has the id ${id} (position ${position}); ids go up to ` +
          `${this.#parts.bpe.vocabulary.largestId}. Pass unknownIds: 'skip' to leave such ids out.`,
      );
    });
  }

  #template(name: string | undefined, tools: readonly unknown[] | undefined): ChatTemplate {
    const templates = this.#parts.chatTemplates;
    if (templates.size === 0) {
      throw new TokenizerError(
        `${this.#parts.source} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json). ` +
          'It may be a base model: encode plain text instead.',
      );
    }
    const wanted = name ?? (tools !== undefined && templates.has('tool_use') ? 'tool_use' : 'default');
    const template = templates.get(wanted);
    if (template) return template;
    const message = `${this.#parts.source} has no chat template named ${show(wanted)}`;
    throw new InputError(
      `${message}; it has ${[...templates.keys()].sort().join(', ')}. Pass one as chatTemplate.`,
    );
  }

  *#encoding(text: string, options: EncodeOptions, ids: number[]): Generator<void, void, undefined> {
    if (typeof text !== 'string') {
      throw new InputError(expected('The text to encode', text, 'a text'));
    }
    const { bpe, splitSpecialTokens } = this.#parts;
    const { before, after } = options.addSpecialTokens === false ? NOTHING : bpe.surroundings;
    ids.push(...before);
    yield* bpe.encode(text, options.splitSpecialTokens ?? splitSpecialTokens, ids);
    ids.push(...after);
  }
}

const NOTHING = { before: [], after: [] } as const;

function withoutPadding(rows: readonly (readonly number[])[]): TokenizedBatch {
  return { inputIds: rows.map((row) => [...row]), attentionMask: rows.map((row) => row.map(() => 1)) };
}
