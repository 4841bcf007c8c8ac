import { Worker } from 'node:worker_threads';
import { TokenizerError } from '../errors.ts';

/** Paths of the files a tokenizer is built from: tokenizer.json, or vocab.json with merges.txt. */
export type TokenizerPaths = { tokenizerJson: string } | { vocabJson: string; mergesTxt: string };

/** Parsed tokenizer files, held by a worker and handed over in pieces. */
export interface TokenizerFiles {
  /** tokenizer.json without `model.vocab` and `model.merges`; undefined where there is only vocab.json. */
  readonly head: unknown;
  /** Entries of the vocabulary, or undefined where the file has no vocabulary object. */
  readonly vocabCount: number | undefined;
  /** Entries of the merge list, or undefined where the file has no merge list. */
  readonly mergeCount: number | undefined;
  vocab(from: number, to: number): Promise<[token: string, id: unknown][]>;
  /** Merges as the JSON of `[left, right]`; null for the version line and empty lines of merges.txt. */
  merges(from: number, to: number): Promise<(string | null)[]>;
  close(): Promise<void>;
}

type Reply = { error: string } | { value: unknown };

// A string, because a worker cannot be started from a TypeScript source file: the same code must run from `src` and
// from the build. It answers `open` with the small parts, then `vocab` and `merges` with slices on request. Slices
// travel as text, which costs the receiving thread less than structured cloning.
const WORKER_SOURCE = `
const { parentPort, workerData: paths } = require('node:worker_threads');
const fs = require('node:fs');
let vocab, merges, known, nameMerge, vocabName;
const isRecord = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const readText = (path) => fs.readFileSync(path, 'utf8').replace(/^\\uFEFF/, '');
function parseJson(path) {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    throw new Error(path + ' is not valid JSON: ' + error.message);
  }
}
function open() {
  let head;
  if (paths.tokenizerJson) {
    head = parseJson(paths.tokenizerJson);
    if (isRecord(head) && isRecord(head.model)) {
      if (isRecord(head.model.vocab)) vocab = Object.entries(head.model.vocab);
      if (Array.isArray(head.model.merges)) merges = head.model.merges;
      delete head.model.vocab;
      delete head.model.merges;
    }
    vocabName = 'model.vocab';
    nameMerge = (index) => paths.tokenizerJson + ': model.merges[' + index + ']';
  } else {
    const parsed = parseJson(paths.vocabJson);
    if (isRecord(parsed)) vocab = Object.entries(parsed);
    merges = readText(paths.mergesTxt).replace(/\\r?\\n$/, '').split(/\\r?\\n/);
    vocabName = paths.vocabJson;
    nameMerge = (index) => paths.mergesTxt + ': line ' + (index + 1);
  }
  return { head, vocabCount: vocab?.length, mergeCount: merges?.length };
}
function mergeKey(merge, index) {
  if (paths.mergesTxt && (merge === '' || (index === 0 && merge.startsWith('#version')))) return null;
  const pair = typeof merge === 'string' ? merge.split(' ') : merge;
  if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === 'string' && part !== '')) {
    throw new Error(nameMerge(index) + ' must be two tokens, but is ' + JSON.stringify(merge).slice(0, 80) + '.');
  }
  known ??= new Set(vocab.map(([token]) => token));
  const missing = [pair[0], pair[1], pair[0] + pair[1]].find((token) => !known.has(token));
  if (missing === undefined) return JSON.stringify(pair);
  throw new Error(nameMerge(index) + ' (' + JSON.stringify(merge) + ') needs the token ' + JSON.stringify(missing) +
    ', which ' + vocabName + ' does not have.');
}
const answers = {
  open,
  vocab: ({ from, to }) => JSON.stringify(vocab.slice(from, to)),
  merges: ({ from, to }) => JSON.stringify(merges.slice(from, to).map((merge, i) => mergeKey(merge, from + i))),
};
parentPort.on('message', (request) => {
  try {
    parentPort.postMessage({ value: answers[request.type](request) });
  } catch (error) {
    parentPort.postMessage({ error: error.message });
  }
});
`;

/**
 * Reads and parses tokenizer files in a worker thread, so that a full-size tokenizer.json (7 to 16 MB, 0.2 s of
 * parsing) does not hold up the event loop. The big tables then arrive slice by slice, on request.
 *
 * @throws {TokenizerError} a file cannot be read or is not valid JSON; later, a merge is malformed or speaks of tokens
 * that the vocabulary lacks.
 */
export async function openTokenizerFiles(paths: TokenizerPaths): Promise<TokenizerFiles> {
  // Flags of this process such as --input-type=module would make the source something else than the script it is.
  const worker = new Worker(WORKER_SOURCE, { eval: true, execArgv: [], workerData: paths });
  const ask = (request: object) => askWorker(worker, request);
  try {
    const head = (await ask({ type: 'open' })) as Pick<TokenizerFiles, 'head' | 'vocabCount' | 'mergeCount'>;
    return {
      ...head,
      vocab: async (from, to) => JSON.parse((await ask({ type: 'vocab', from, to })) as string),
      merges: async (from, to) => JSON.parse((await ask({ type: 'merges', from, to })) as string),
      close: async () => {
        await worker.terminate();
      },
    };
  } catch (error) {
    await worker.terminate();
    throw error;
  }
}

function askWorker(worker: Worker, request: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const onMessage = (reply: Reply) => {
      stop();
      if ('error' in reply) reject(new TokenizerError(`Cannot read the tokenizer: ${reply.error}`));
      else resolve(reply.value);
    };
    const onFailure = (cause: unknown) => {
      stop();
      reject(new TokenizerError(`Cannot read the tokenizer: its worker thread ended (${String(cause)}).`));
    };
    const stop = () => {
      worker.off('message', onMessage);
      worker.off('error', onFailure);
      worker.off('exit', onFailure);
    };
    worker.on('message', onMessage);
    worker.on('error', onFailure);
    worker.on('exit', onFailure);
    worker.postMessage(request);
  });
}
