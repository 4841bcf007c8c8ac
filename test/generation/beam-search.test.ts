import { expect, it } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { logSumExp } from '../helpers/goldens.ts';
import { folderRepo, goldenPath } from '../tokenizer/folder-repo.ts';
import { generate, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

const VOCAB = 5;
const PROMPT = [1, 2];

/** All continuations of three tokens, the likeliest first. */
function exhaustive(model: LookupModel, prompt = PROMPT): { tokens: number[]; score: number }[] {
  const ids = Array.from({ length: VOCAB }, (_, id) => id);
  const all = ids.flatMap((a) => ids.flatMap((b) => ids.map((c) => [a, b, c])));
  const scoreOf = (tokens: number[]) => {
    const row = [...prompt, ...tokens];
    return tokens.reduce((sum, token, i) => {
      const logits = model.row(row[i] as number, row[i + 1] as number);
      return sum + (logits[token] as number) - logSumExp(logits);
    }, 0);
  };
  return all.map((tokens) => ({ tokens, score: scoreOf(tokens) })).sort((a, b) => b.score - a.score);
}

it('with as many beams as there are sequences finds the likeliest of all', async () => {
  const model = new LookupModel(VOCAB);
  const best = exhaustive(model).slice(0, 6);
  const options = {
    inputIds: [PROMPT],
    maxNewTokens: 3,
    numBeams: 128,
    numReturnSequences: 6,
    lengthPenalty: 0,
  };
  const { sequences, sequencesScores, finishReasons, stats } = await generate(model, {}, options);
  expect(sequences.map((row) => row.slice(2))).toEqual(best.map(({ tokens }) => tokens));
  for (const [i, { score }] of best.entries()) expect(sequencesScores?.[i]).toBeCloseTo(score, 5);
  expect(finishReasons).toEqual(Array(6).fill('length'));
  expect(stats).toMatchObject({ promptTokens: 2, newTokens: 18 });
  expect(model.open).toBe(0);
});

it('finds it for each of many prompts', async () => {
  const model = new LookupModel(VOCAB);
  const prompts = Array.from({ length: VOCAB ** 2 }, (_, i) => [i % VOCAB, Math.floor(i / VOCAB)]);
  const { sequences } = await generate(
    model,
    {},
    { inputIds: prompts, maxNewTokens: 3, numBeams: VOCAB ** 2 },
  );
  const best = prompts.map((prompt) => exhaustive(model, prompt)[0]?.tokens);
  expect(sequences.map((row) => row.slice(2))).toEqual(best);
});

it('ends beams with stop strings, criteria and time, as rows', async () => {
  const tokenizer = await loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
  const model = new LookupModel(1024);
  const [stop] =
    (await generate(model, {}, { inputIds: [PROMPT], maxNewTokens: 6, numBeams: 2, tokenizer })).text ?? [];
  const options = { inputIds: [PROMPT], maxNewTokens: 6, numBeams: 2, tokenizer };
  const text = (stop as string).slice(-3);
  const stopped = await generate(
    model,
    {},
    { ...options, stopStrings: text, lengthPenalty: -9, maxNewTokens: 9 },
  );
  expect(stopped.text?.[0]).not.toContain(text);
  expect(stopped).toMatchObject({ finishReasons: ['stop'], stopStrings: [text] });
  const criterion = (tokens: readonly number[]) => tokens.length === 5;
  const ended = await run({ numBeams: 3, numReturnSequences: 3, stoppingCriteria: [criterion] });
  expect(ended.sequences.map((row) => row.length)).toEqual([5, 5, 5]);
  expect(ended.finishReasons).toEqual(['stop', 'stop', 'stop']);
  const slow = new LookupModel(97, { pause: () => new Promise((resolve) => setTimeout(resolve, 5)) });
  const late = await generate(
    slow,
    {},
    { inputIds: [PROMPT], numBeams: 2, maxNewTokens: 4000, maxTime: 0.05 },
  );
  expect(late.finishReasons).toEqual(['time']);
});
