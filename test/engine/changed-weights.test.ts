import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { copy, expected, expectNamed, generating, load, prompt, SHARD } from './changed-weights.ts';

it('on the CPU, a model whose file was cut short fails, and what was computed before is kept', async () => {
  const path = copy();
  const model = await load(path);
  expect(await generating(model)).toEqual(expected);
  truncateSync(join(path, SHARD), 5000);
  await expectNamed(generating(model), path);
  await expectNamed(model.forward({ inputIds: [prompt.input_ids] }), path);
  await model.dispose();
});
