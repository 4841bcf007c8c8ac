import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { AutoProcessor } from '../../src/auto/auto-processor.ts';

const models = fileURLToPath(new URL('../fixtures/goldens/models/', import.meta.url));

it('AutoProcessor turns a chat with a picture into inputs', async () => {
  const folder = `${models}qwen3_vl_moe_e`;
  const processor = await AutoProcessor.fromPretrained(folder);
  const content = [
    { type: 'image', image: `${folder}/images/gradient.png` },
    { type: 'text', text: 'What is it?' },
  ];
  const inputs = await processor.applyChatTemplate([{ role: 'user', content }], {
    addGenerationPrompt: true,
  });
  expect(inputs.imageGridThw).toEqual([[1, 4, 6]]);
  expect(inputs.mmTokenTypeIds[0]?.filter((type) => type === 1)).toHaveLength(6);
  expect(processor.decode(inputs.inputIds[0] as number[], { skipSpecialTokens: true })).toContain(
    'What is it?',
  );
});

it('AutoProcessor names what a folder lacks', async () => {
  const empty = mkdtempSync(join(tmpdir(), 'empty-'));
  await expect(AutoProcessor.fromPretrained(empty)).rejects.toThrow(
    /tokenizer\.json|preprocessor_config\.json/,
  );
});
