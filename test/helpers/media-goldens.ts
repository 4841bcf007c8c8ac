/** Goldens of models that see and hear. */
import { join } from 'node:path';
import type { ImageTextForwardInputs, Processor } from '../../src/index.ts';
import { type GoldenPrompt, goldenModel, readJson, readTensors } from './goldens.ts';

export interface MediaPrompt extends GoldenPrompt {
  images: string[];
  sounds?: string[];
  text: string;
}

type Golden = { data: Float32Array; shape: number[] };

export function mediaGolden(name: string) {
  const folder = goldenModel(name);
  const tensors = readTensors(join(folder, 'expected.safetensors')) as Map<string, Golden>;
  const { prompts } = readJson<{ prompts: MediaPrompt[] }>(folder, 'expected.json');
  const spectrogram = (sound: string) => {
    const { data, shape } = tensors.get(`sound.${sound}.input_features`) as Golden;
    return { data, frames: shape[1] as number };
  };

  /** A prompt as the processor would lay it out, were its sound at hand and not its spectrogram. */
  async function inputsOf(prompt: MediaPrompt, processor: Processor): Promise<ImageTextForwardInputs> {
    const { images, sounds = [], input_ids } = prompt;
    const inputs: ImageTextForwardInputs = { inputIds: [input_ids] };
    if (images.length > 0) {
      const text = '<|vision_start|><|image_pad|><|vision_end|>'.repeat(images.length);
      const files = images.map((image) => join(folder, 'images', `${image}.png`));
      const { pixelValues, imageGridThw } = await processor({ text, images: files });
      Object.assign(inputs, { pixelValues, imageGridThw });
    }
    const [sound] = sounds;
    if (sound === undefined) return inputs;
    const { data, frames } = spectrogram(sound);
    return {
      ...inputs,
      inputFeatures: { data, dims: [1, data.length / frames, frames] },
      featureAttentionMask: [Array<number>(frames).fill(1)],
    };
  }

  return { prompts, tensors, spectrogram, inputsOf };
}
