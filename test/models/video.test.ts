/** Frames of a video through processor and model. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AutoModelForImageTextToText, AutoProcessor, type PixelValues } from '../../src/index.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';

/** What transformers 5.18 computes from these inputs: the first logits of tokens in the middle and at the end. */
const EXPECTED: Readonly<Record<string, readonly (readonly [token: number, first8: readonly number[]])[]>> = {
  qwen3_vl_moe_e: [
    [30, [-0.165671, -0.353579, -0.976205, -3.829445, 1.014142, -0.575119, 1.491745, 1.112251]],
    [72, [0.541372, 1.314691, 2.331496, -2.230175, -0.121211, -1.541993, 0.798806, -3.916557]],
  ],
  qwen3_5_moe_j: [
    [30, [1.619474, -1.77148, -1.382657, 0.713482, 1.235703, -1.753739, -0.701382, 2.199776]],
    [60, [1.278126, 0.058016, 3.46774, 0.265672, 3.804966, -1.084386, -0.775522, 1.354663]],
  ],
  qwen4_exp_k: [
    [30, [-0.05753, 0.890102, 0.882679, -0.052258, 0.346166, -1.137065, 0.203987, -0.276894]],
    [60, [-0.004028, -0.613874, 0.930936, 0.055332, -0.474069, 1.333147, 0.231954, 0.452316]],
  ],
};

describe.each(Object.entries(EXPECTED))('%s', (name, expected) => {
  it('sees the frames of a video as transformers does', async () => {
    const folder = goldenModel(name);
    const model = await AutoModelForImageTextToText.fromPretrained(folder, { dtype: 'float32', threads: 1 });
    const processor = await AutoProcessor.fromPretrained(folder);
    const frames = Array.from({ length: 4 }, () => join(folder, 'images/gradient.png'));
    const content = [
      { type: 'video', video: { frames, fps: 2 } },
      { type: 'text', text: 'What happens?' },
    ];
    const messages = [{ role: 'user', content }];
    const inputs = await processor.applyChatTemplate(messages, { addGenerationPrompt: true });
    // Each half of the clip comes after the time that it shows.
    expect(processor.decode(inputs.inputIds[0] as number[])).toMatch(/<0\.2 seconds>.*<1\.2 seconds>/s);
    // The second half of the clip shows something else.
    const { data } = inputs.pixelValuesVideos as PixelValues;
    for (let i = data.length / 2; i < data.length; i++) data[i] = -0.5 * (data[i] as number);
    const { logits } = await model.forward(inputs);
    const vocab = logits.dims[2] as number;
    for (const [token, first8] of expected) {
      const row = (logits.data as Float32Array).subarray(token * vocab, token * vocab + 8);
      expect(maxDifference(row, first8)).toBeLessThan(5e-4);
    }
    await expect(model.forward({ ...inputs, videoSecondPerGrid: [1] })).rejects.toThrow(
      /reads in its prompt when frames were taken: leave videoSecondPerGrid out/,
    );
    expect(logits.dims[1]).toBe((expected.at(-1)?.[0] as number) + 1);
    await model.dispose();
  });
});
