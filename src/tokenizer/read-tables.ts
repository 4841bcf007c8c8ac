import { readFile, stat } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { expected, show, TokenizerError } from '../errors.ts';
import { reading } from '../files.ts';
import { MAX_JSON_DEPTH, parseJsonFile } from '../json.ts';
import { JsonCursor, JsonSyntaxError } from '../json-cursor.ts';
import { MergeTable } from './bpe/merges.ts';
import { Vocabulary } from './bpe/vocabulary.ts';

/** Paths of the files a tokenizer is built from: tokenizer.json, or vocab.json with merges.txt. */
export type TokenizerPaths = { tokenizerJson: string } | { vocabJson: string; mergesTxt: string };

/** What the files say, the big tables apart. */
export interface TokenizerTables {
  /** tokenizer.json without `model.vocab` and `model.merges`; undefined where there is only vocab.json. */
  readonly head: unknown;
  readonly vocabulary: Vocabulary;
  readonly merges: MergeTable;
}

/** The largest published tokenizer.json has 35 MB. */
const LARGEST_FILE = 256 * 2 ** 20;
// Entries handled between two turns of the event loop: one or two milliseconds of work.
const SLICE = 1024;

type Pair = readonly [left: string, right: string];

/**
 * Reads the files of a tokenizer, a slice per turn of the event loop.
 *
 * @throws {TokenizerError} a file cannot be read or is damaged, an id occurs twice, or a merge speaks of tokens that the
 * vocabulary lacks.
 */
export async function readTables(paths: TokenizerPaths): Promise<TokenizerTables> {
  return 'tokenizerJson' in paths ? readTokenizerJson(paths.tokenizerJson) : readVocabAndMerges(paths);
}

async function readTokenizerJson(path: string): Promise<TokenizerTables> {
  const reader = new TableReader(await readBytes(path), path);
  const head: Record<string, unknown> = {};
  const model: Record<string, unknown> = {};
  let vocabulary: Vocabulary | undefined;
  let merges: MergeTable | undefined;
  let mergesAt: number | undefined;
  if (!reader.isObject())
    return { head: reader.value(), vocabulary: new Vocabulary(), merges: new MergeTable(0) };
  await reader.members(async (key) => {
    if (key !== 'model' || !reader.isObject()) {
      head[key] = reader.value();
      return;
    }
    head.model = model;
    await reader.members(async (name) => {
      if (name === 'vocab' && reader.isObject()) vocabulary = await reader.vocabulary(`${path}: model.vocab`);
      else if (name === 'merges' && reader.isList()) {
        mergesAt = reader.position;
        if (vocabulary === undefined) reader.skip();
        else merges = await reader.merges(vocabulary);
      } else model[name] = reader.value();
    });
  });
  reader.end();
  if (vocabulary === undefined && head.model === model)
    throw new TokenizerError(expected(`${path}: model.vocab`, model.vocab, 'an object of token → id'));
  if (mergesAt === undefined && head.model === model)
    throw new TokenizerError(expected(`${path}: model.merges`, model.merges, 'a list of merges'));
  if (vocabulary !== undefined && merges === undefined && mergesAt !== undefined) {
    reader.position = mergesAt;
    merges = await reader.merges(vocabulary);
  }
  return { head, vocabulary: vocabulary ?? new Vocabulary(), merges: merges ?? new MergeTable(0) };
}

async function readVocabAndMerges({
  vocabJson,
  mergesTxt,
}: {
  vocabJson: string;
  mergesTxt: string;
}): Promise<TokenizerTables> {
  const reader = new TableReader(await readBytes(vocabJson), vocabJson);
  if (!reader.isObject())
    throw new TokenizerError(expected(vocabJson, reader.value(), 'an object of token → id'));
  const vocabulary = await reader.vocabulary(vocabJson);
  reader.end();
  const text = (await readBytes(mergesTxt)).toString('utf8').replace(/^\ufeff/, '');
  const builder = new MergeBuilder(vocabulary, vocabJson);
  for (let start = 0, line = 1; start < text.length; line++) {
    const newline = text.indexOf('\n', start);
    const end = newline === -1 ? text.length : newline;
    const merge = text.slice(start, text[end - 1] === '\r' ? end - 1 : end);
    start = end + 1;
    if (line % SLICE === 0) await turn();
    if (merge === '' || (line === 1 && merge.startsWith('#version'))) continue;
    builder.add(merge.split(' '), merge, () => `${mergesTxt}: line ${line}`);
  }
  return { head: undefined, vocabulary, merges: await builder.table() };
}

async function readBytes(path: string): Promise<Buffer> {
  const { size } = await reading(path, () => stat(path));
  if (size <= LARGEST_FILE) return reading(path, () => readFile(path));
  throw new TokenizerError(`${path} has ${size} bytes; the limit for a tokenizer is ${LARGEST_FILE}.`);
}

/** Goes through the JSON of a tokenizer. */
class TableReader {
  readonly #bytes: Buffer;
  readonly #cursor: JsonCursor;
  readonly #path: string;

  constructor(bytes: Buffer, path: string) {
    this.#bytes = bytes;
    this.#cursor = new JsonCursor(bytes);
    this.#path = path;
    if (bytes.toString('latin1', 0, 3) === '\xef\xbb\xbf') this.#cursor.position = 3;
  }

  get position(): number {
    return this.#cursor.position;
  }

  set position(position: number) {
    this.#cursor.position = position;
  }

  isObject(): boolean {
    return this.#parsing(() => this.#cursor.peek()) === 0x7b;
  }

  isList(): boolean {
    return this.#parsing(() => this.#cursor.peek()) === 0x5b;
  }

  skip(): void {
    this.#parsing(() => this.#cursor.skipValue(MAX_JSON_DEPTH));
  }

  value(): unknown {
    this.#parsing(() => this.#cursor.peek());
    const start = this.#cursor.position;
    this.skip();
    return parseJsonFile(this.#bytes.toString('utf8', start, this.#cursor.position), this.#path);
  }

  end(): void {
    this.#parsing(() => {
      if (this.#cursor.peek() !== undefined) throw new JsonSyntaxError('text follows the value');
    });
  }

  async members(member: (key: string) => Promise<void>): Promise<void> {
    const cursor = this.#cursor;
    this.#parsing(() => cursor.expect('{'));
    if (this.#parsing(() => cursor.accept('}'))) return;
    do {
      await member(this.#key());
    } while (this.#parsing(() => cursor.accept(',')));
    this.#parsing(() => cursor.expect('}'));
  }

  async vocabulary(file: string): Promise<Vocabulary> {
    const vocabulary = new Vocabulary();
    let count = 0;
    const more = this.#entries('{', '}');
    while (more()) {
      const token = this.#key();
      vocabulary.add(token, this.#id(), file);
      if (++count % SLICE === 0) await turn();
    }
    if (count > 0) return vocabulary;
    throw new TokenizerError(expected(file, {}, 'an object of token → id with at least one entry'));
  }

  async merges(vocabulary: Vocabulary): Promise<MergeTable> {
    const builder = new MergeBuilder(vocabulary, 'model.vocab');
    let index = 0;
    const more = this.#entries('[', ']');
    while (more()) {
      const merge = this.#parsing(() => this.#cursor.readValue(MAX_JSON_DEPTH));
      const at = index++;
      builder.add(
        typeof merge === 'string' ? merge.split(' ') : merge,
        merge,
        () => `${this.#path}: model.merges[${at}]`,
      );
      if (index % SLICE === 0) await turn();
    }
    return builder.table();
  }

  /** Moves to the next entry of an object or list; false at its end. */
  #entries(open: '{' | '[', close: '}' | ']'): () => boolean {
    const cursor = this.#cursor;
    let isFirst = true;
    return () =>
      this.#parsing(() => {
        if (isFirst) cursor.expect(open);
        const isOver = isFirst ? cursor.accept(close) : !cursor.accept(',');
        if (isOver && !isFirst) cursor.expect(close);
        isFirst = false;
        return !isOver;
      });
  }

  #key(): string {
    return this.#parsing(() => {
      const key = this.#cursor.readString(LARGEST_FILE);
      this.#cursor.expect(':');
      return key;
    });
  }

  #id(): unknown {
    return this.#parsing(() => this.#cursor.readValue(MAX_JSON_DEPTH));
  }

  #parsing<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof JsonSyntaxError)) throw error;
      const reason =
        this.#bytes.length === 0 ? 'the file is empty' : `${error.message} near byte ${this.position}`;
      throw new TokenizerError(
        `Cannot read the tokenizer: ${this.#path} is not valid JSON: ${reason}. Download the file again.`,
        { cause: error },
      );
    }
  }
}

/** Turns merges, given as pairs of tokens, into a table of ids. */
class MergeBuilder {
  readonly #vocabulary: Vocabulary;
  readonly #vocabularyName: string;
  readonly #ids: number[] = [];

  constructor(vocabulary: Vocabulary, vocabularyName: string) {
    this.#vocabulary = vocabulary;
    this.#vocabularyName = vocabularyName;
  }

  /** @param name names the merge in messages */
  add(pair: unknown, merge: unknown, name: () => string): void {
    if (!isPair(pair)) throw new TokenizerError(expected(name(), merge, 'two tokens'));
    for (const token of [pair[0], pair[1], pair[0] + pair[1]]) {
      const id = this.#vocabulary.id(token);
      if (id === undefined) {
        throw new TokenizerError(
          `${name()} (${show(merge)}) needs the token ${show(token)}, which ${this.#vocabularyName} does not have.`,
        );
      }
      this.#ids.push(id);
    }
  }

  async table(): Promise<MergeTable> {
    const ids = this.#ids;
    const table = new MergeTable(ids.length / 3);
    for (let at = 0; at < ids.length; at += 3) {
      table.add(ids[at] as number, ids[at + 1] as number, at / 3, ids[at + 2] as number);
      if (at % (3 * 16 * SLICE) === 0) await turn();
    }
    return table;
  }
}

function isPair(value: unknown): value is Pair {
  return (
    Array.isArray(value) &&
    value.length === 2 &&
    value.every((part) => typeof part === 'string' && part !== '')
  );
}
