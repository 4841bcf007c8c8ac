/** A model from its first word to its last: what it says of itself, and what it takes once it was disposed of. */
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, DEMO_MODEL } from '../../src/index.ts';

let model: CausalLM;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
});
afterAll(() => model.dispose());

describe('a model', () => {
  it('is one line on the console', () => {
    expect(inspect(model)).toMatch(
      /^CausalLM\(demo: qwen3_moe, bfloat16 on the CPU, experts grouped_mm, context \d+\)$/,
    );
  });

  it('is disposed of at the end of its block', async () => {
    let kept: CausalLM;
    {
      await using inside = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
      kept = inside;
    }
    await expect(kept.generate({ inputIds: [[1]] })).rejects.toThrow(/was disposed/);
  });

  it('says once that the default length has cut', async () => {
    const warnings: string[] = [];
    const told = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, {
      onWarning: (text) => warnings.push(text),
    });
    for (let i = 0; i < 2; i++) await told.generate({ inputIds: [[1, 2]], doSample: false, eosTokenId: [] });
    expect(warnings).toEqual([expect.stringMatching(/after 256 new tokens/)]);
    await told.dispose();
  });
});

it('a model that was disposed of takes no settings, listeners or caches', async () => {
  const gone = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  await gone.dispose();
  const calls = [
    () => gone.setExpertsImplementation('eager'),
    () => gone.on('routing', () => {}),
    () => gone.createCache(),
  ];
  for (const call of calls) expect(call).toThrow(/the model was disposed; load it again/);
  await expect(gone.loadCache('any.safetensors')).rejects.toThrow(/the model was disposed/);
});
