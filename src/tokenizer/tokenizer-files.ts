import { Worker } from 'node:worker_threads';
import { TokenizerError } from '../errors.ts';

/** Paths of the files a tokenizer is built from: tokenizer.json, or vocab.json with merges.txt. */
export type TokenizerPaths = { tokenizerJson: string } | { vocabJson: string; mergesTxt: string };

/** A merge as written in the file: `"a b"` or `["a", "b"]`, not yet checked. */
export type RawMerge = unknown;

/** Parsed tokenizer files, held by a worker and handed over in pieces. */
export interface TokenizerFiles {
  /** tokenizer.json without `model.vocab` and `model.merges`; undefined where there is only vocab.json. */
  readonly head: unknown;
  /** Entries of the vocabulary, or undefined where the file has no vocabulary object. */
  readonly vocabCount: number | undefined;
  /** Entries of the merge list, or undefined where the file has no merge list. */
  readonly mergeCount: number | undefined;
  vocab(from: number, to: number): Promise<[token: string, id: unknown][]>;
  merges(from: number, to: number): Promise<RawMerge[]>;
  close(): Promise<void>;
}

type Reply = { error: string } | { value: unknown };

// A string, because a worker cannot be started from a TypeScript source file: the same code must run from `src` and
// from the build. It answers `open` with the small parts, then `vocab` and `merges` with slices on request.
const WORKER_SOURCE = `
const { parentPort, workerData: paths } = require('node:worker_threads');
const fs = require('node:fs');
let vocab, merges;
const isRecord = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
function parseJson(path) {
  const text = fs.readFileSync(path, 'utf8').replace(/^\\uFEFF/, '');
  try {
    return JSON.parse(text);
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
  } else {
    const parsed = parseJson(paths.vocabJson);
    if (isRecord(parsed)) vocab = Object.entries(parsed);
    const lines = fs.readFileSync(paths.mergesTxt, 'utf8').replace(/^\\uFEFF/, '').split(/\\r?\\n/);
    if (lines[lines.length - 1] === '') lines.pop();
    merges = lines;
  }
  return { head, vocabCount: vocab?.length, mergeCount: merges?.length };
}
const answers = { open, vocab: ({ from, to }) => vocab.slice(from, to), merges: ({ from, to }) => merges.slice(from, to) };
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
 * @throws {TokenizerError} a file cannot be read or is not valid JSON.
 */
export async function openTokenizerFiles(paths: TokenizerPaths): Promise<TokenizerFiles> {
  const worker = new Worker(WORKER_SOURCE, { eval: true, workerData: paths });
  const ask = (request: object) => askWorker(worker, request);
  try {
    const head = (await ask({ type: 'open' })) as Pick<TokenizerFiles, 'head' | 'vocabCount' | 'mergeCount'>;
    return {
      ...head,
      vocab: async (from, to) => (await ask({ type: 'vocab', from, to })) as [string, unknown][],
      merges: async (from, to) => (await ask({ type: 'merges', from, to })) as RawMerge[],
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
