import type { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers';
import { InputError, show, TokenizerError } from '../errors.ts';
import { checkOpenOptions, checkOptions, noMore } from '../options.ts';
import type { ChatTemplate } from './chat-template.ts';
import { type ChatMessage, checkMessages, checkObjects, forTemplate, renderOpen } from './conversation.ts';
import { Detokenizer } from './detokenizer.ts';

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
}

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
] as const satisfies readonly (keyof TokenizeOptions)[];
const DECODE_OPTIONS = [
  'skipSpecialTokens',
  'unknownIds',
] as const satisfies readonly (keyof DecodeOptions)[];
const CHAT_OPTIONS = [
  ...['tools', 'documents', 'addGenerationPrompt', 'continueFinalMessage', 'tokenize', 'chatTemplate'],
];

/** Special tokens by role, as text. */
export interface SpecialTokenNames {
  bos?: string | undefined;
  eos?: string | undefined;
  pad?: string | undefined;
  unk?: string | undefined;
}

/** What a tokenizer is made of; `loadTokenizer` puts it together. */
export interface TokenizerParts {
  bpe: BpeTokenizer;
  /** Size of the vocabulary without added tokens. */
  vocabSize: number;
  /** Size of the vocabulary with added tokens. */
  fullVocabSize: number;
  addedTokens: readonly { id: number; content: string; special: boolean }[];
  names: SpecialTokenNames;
  /** Further special tokens (`additional_special_tokens`). */
  additionalSpecialTokens: readonly string[];
  cleanUpTokenizationSpaces: boolean;
  /** By name; a single template is called `default`. */
  chatTemplates: ReadonlyMap<string, ChatTemplate>;
  /** The id or folder, for messages. */
  source: string;
}

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
    const { names, addedTokens } = parts;
    this.addedTokens = new Map(addedTokens.map((token) => [token.content, token.id]));
    const roles = [names.bos, names.eos, names.pad, names.unk, ...parts.additionalSpecialTokens];
    const special = [...addedTokens.filter((token) => token.special).map((token) => token.content), ...roles];
    this.specialTokens = [...new Set(special)]
      .filter((text): text is string => text !== undefined && this.tokenToId(text) !== undefined)
      .sort((a, b) => (this.tokenToId(a) as number) - (this.tokenToId(b) as number));
    this.vocabSize = parts.vocabSize;
    this.fullVocabSize = parts.fullVocabSize;
    this.bosTokenId = this.#idOf(names.bos);
    this.eosTokenId = this.#idOf(names.eos);
    this.padTokenId = this.#idOf(names.pad);
  }

  /** The id of a token given as it stands in the vocabulary (`Ġthe`, `<|im_end|>`), or undefined. */
  tokenToId(token: string): number | undefined {
    return this.#parts.bpe.token_to_id(token);
  }

  /** The token with this id as it stands in the vocabulary, or undefined. */
  idToToken(id: number): string | undefined {
    return this.#parts.bpe.id_to_token(id);
  }

  /**
   * Token ids of one text. Special tokens written out in the text become their ids, as in transformers.
   *
   * @throws {InputError} `text` is not a string.
   */
  encode(text: string, options: Pick<TokenizeOptions, 'addSpecialTokens'> = {}): number[] {
    if (typeof text !== 'string')
      throw new InputError(`The text to encode must be a string, but is ${show(text)}.`);
    checkOptions(options, TOKENIZE_OPTIONS, 'encode');
    const { ids, tokens } = this.#parts.bpe.encode(text, {
      add_special_tokens: options.addSpecialTokens ?? true,
    });
    const unknown = (ids as (number | undefined)[]).indexOf(undefined);
    if (unknown === -1) return ids;
    throw new TokenizerError(
      `The tokenizer of ${this.#parts.source} has no id for ${show(tokens[unknown])}, and no unknown-token to stand in.`,
    );
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
      throw new InputError(`The tokenizer takes a text or a list of texts, but got ${show(text)}.`);
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
    const width = Math.max(...rows.map((row) => row.length));
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
    if (!Array.isArray(ids)) throw new InputError(`decode takes a list of token ids, but got ${show(ids)}.`);
    const known = this.#knownIds(ids, options.unknownIds ?? 'error');
    if (known.length === 0) return '';
    return this.#parts.bpe.decode(known, {
      skip_special_tokens: options.skipSpecialTokens ?? false,
      clean_up_tokenization_spaces: this.#parts.cleanUpTokenizationSpaces,
    });
  }

  /** `decode` of each row. */
  batchDecode(rows: readonly (readonly number[])[], options: DecodeOptions = {}): string[] {
    return rows.map((row) => this.decode(row, options));
  }

  /** Decodes a growing sequence id by id; see `Detokenizer`. Ids that no token has add no text. */
  detokenizer(options: Pick<DecodeOptions, 'skipSpecialTokens'> = {}): Detokenizer {
    checkOptions(options, ['skipSpecialTokens'], 'detokenizer');
    return new Detokenizer((ids) => this.decode(ids, { ...options, unknownIds: 'skip' }));
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
      ...this.#templateTokens(),
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
        throw new InputError(
          `Position ${position} must be a token id (an integer from 0 up), but is ${show(id)}.`,
        );
      }
      if (this.idToToken(id) !== undefined) return true;
      if (unknownIds === 'skip') return false;
      throw new InputError(
        `No token of ${this.#parts.source} has the id ${id} (position ${position}); ids go up to ` +
          `${this.fullVocabSize - 1}. Pass unknownIds: 'skip' to leave such ids out.`,
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

  /** The special tokens a template can name, under transformers' names. */
  #templateTokens(): Record<string, unknown> {
    const { names, additionalSpecialTokens } = this.#parts;
    const tokens = Object.entries(names).map(([role, text]) => [`${role}_token`, text]);
    const further =
      additionalSpecialTokens.length > 0 ? { additional_special_tokens: additionalSpecialTokens } : {};
    return { ...Object.fromEntries(tokens.filter(([, text]) => text !== undefined)), ...further };
  }
}

function withoutPadding(rows: readonly (readonly number[])[]): TokenizedBatch {
  return { inputIds: rows.map((row) => [...row]), attentionMask: rows.map((row) => row.map(() => 1)) };
}
