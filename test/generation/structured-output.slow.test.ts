import { expect, it } from 'vitest';
import { answerByRandomSchemas } from './structured-output.ts';

it('every one of a thousand answers is valid by its schema', async () => {
  await expect(answerByRandomSchemas(1000, 2)).resolves.toBeUndefined();
});
