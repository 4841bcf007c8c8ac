import { readFileSync, writeFileSync } from 'node:fs';
import type { BatchResult } from '../../src/batch/index.ts';

/** A request of a batch: some words after a question of its own. */
export function requestLine(number: number, tokens = 8): string {
  return JSON.stringify({
    custom_id: `request-${number}`,
    method: 'POST',
    url: '/v1/chat/completions',
    body: {
      model: 'demo',
      messages: [{ role: 'user', content: `Speak of the number ${number}.` }],
      max_tokens: tokens,
      temperature: 0,
    },
  });
}

export function writeRequests(file: string, count: number, tokens?: number): void {
  writeFileSync(file, Array.from({ length: count }, (_, i) => `${requestLine(i + 1, tokens)}\n`).join(''));
}

export function readResults(file: string): BatchResult[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as BatchResult);
}

/** What the model said, by request. */
export function answersIn(file: string): (string | undefined)[][] {
  return readResults(file).map(({ custom_id, response }) => {
    const body = response?.body as { choices: { message: { content: string } }[] } | undefined;
    return [custom_id ?? undefined, body?.choices[0]?.message.content];
  });
}

export const requestIds = (count: number) => Array.from({ length: count }, (_, i) => `request-${i + 1}`);

/** What stderr says besides how far the run is, which comes every ten seconds. */
export function withoutProgress(stderr: string): string {
  return stderr.replace(/^\d+ of \d+ lines?, .* left\n/gm, '');
}
