/** Weights rounded while a model is loaded, and kept for the next load. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  AbortError,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  InputError,
  type LoadOptions,
  type ProgressEvent,
} from '../../src/index.ts';
import { listKept, removeKept } from '../../src/quantize/kept.ts';
import { readHeader } from '../../src/safetensors/header.ts';
import { layOut, type TensorPlace } from '../../src/safetensors/writer.ts';
import { changedModel } from '../helpers/checkpoints.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';

const TEXT = goldenModel('qwen3_moe_c');
const VL = goldenModel('qwen3_vl_moe_e');
const QUANTIZED = (name: string) => join(import.meta.dirname, '../fixtures/goldens/quantized', name);

let cache: string;
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'switchyard-kept-'));
  vi.stubEnv('SWITCHYARD_CACHE', cache);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true, force: true });
});

interface Loaded {
  logits: Float32Array;
  events: ProgressEvent[];
  warnings: string[];
}

async function load(folder: string, options: LoadOptions = {}): Promise<Loaded> {
  const events: ProgressEvent[] = [];
  const warnings: string[] = [];
  const auto = folder.includes('_vl_') ? AutoModelForImageTextToText : AutoModelForCausalLM;
  const model = await auto.fromPretrained(folder, {
    dtype: 'float32',
    onProgress: (event) => events.push(event),
    onWarning: (message) => warnings.push(message),
    ...options,
  });
  try {
    const { logits } = await model.forward({ inputIds: [[5, 6, 7, 8, 9]] });
    return { logits: (logits.data as Float32Array).slice(), events, warnings };
  } finally {
    await model.dispose();
  }
}

/** Writes every tensor of a file, bfloat16 as it is, in float64. */
async function widen(file: string): Promise<void> {
  const bytes = readFileSync(file);
  const tensors = [...(await readHeader(file)).values()];
  const {
    header,
    places,
    bytes: size,
  } = layOut(
    tensors.map(({ name, shape }) => ({ name, shape, dtype: 'F64' })),
    {},
  );
  const wide = Buffer.alloc(size);
  header.copy(wide);
  for (const { name, offset, byteLength, dtype } of tensors) {
    expect(dtype).toBe('BF16');
    for (let i = 0; i < byteLength / 2; i++) {
      const bits = Uint32Array.of(bytes.readUInt16LE(offset + 2 * i) << 16);
      wide.writeDoubleLE(
        new Float32Array(bits.buffer)[0] as number,
        (places.get(name) as TensorPlace).offset + 8 * i,
      );
    }
  }
  writeFileSync(file, wide);
}

const kept = () => (existsSync(join(cache, 'quantized')) ? readdirSync(join(cache, 'quantized')) : []);

describe('a model loaded with quantization', () => {
  it('refuses a bound that its rounded weights cannot keep before it rounds any', async () => {
    await expect(load(TEXT, { quantization: 'int4', maxMemory: 1000 })).rejects.toThrow(
      /^maxMemory allows 1\.0 kB of weights in memory, but \S+ needs more than .* once its weights are rounded.*experts of one layer\. Raise it/,
    );
    expect(kept()).toEqual([]);
  });

  it('is rounded once, says how large it becomes before all else, and is mapped by the next load', async () => {
    const first = await load(TEXT, { quantization: 'int8' });
    const rounding = first.events.filter(({ stage }) => stage === 'quantize');
    expect(rounding[0]).toMatchObject({ loadedBytes: 0 });
    const [folder] = kept() as [string];
    const file = join(cache, 'quantized', folder, 'weights.safetensors');
    expect(rounding[0]?.totalBytes).toBe(statSync(file).size);
    expect(rounding.at(-1)?.loadedBytes).toBe(statSync(file).size);
    const { mtimeMs } = statSync(file);
    const second = await load(TEXT, { quantization: 'int8' });
    expect(second.events.filter(({ stage }) => stage === 'quantize')).toEqual([]);
    expect(statSync(file).mtimeMs).toBe(mtimeMs);
    expect(second.logits).toEqual(first.logits);
    expect(await listKept()).toMatchObject([
      { model: TEXT, scheme: 'experts int8, attention int8, head int8', bytes: statSync(file).size },
    ]);
  });

  it.each([
    ['of separate experts', TEXT],
    ['of fused, transposed ones', VL],
    ['of fused ones', goldenModel('qwen3_vl_moe_e_resaved')],
    ['in FP8', QUANTIZED('qwen3_moe_fp8')],
    ['of fused FP8', QUANTIZED('qwen3_vl_moe_fp8')],
  ])('%s gives nearly the same logits in int8, and is off by more in int4', async (_, folder) => {
    const { logits: exact } = await load(folder);
    const { logits: int8 } = await load(folder, { quantization: 'int8' });
    const { logits: int4 } = await load(folder, { quantization: { experts: 'int4', attention: 'int4' } });
    const scale = Math.max(...exact.map(Math.abs));
    expect(maxDifference(int8, exact)).toBeLessThan(0.05 * scale);
    expect(maxDifference(int8, exact)).toBeGreaterThan(0);
    expect(maxDifference(int4, exact)).toBeGreaterThan(2 * maxDifference(int8, exact));
  });

  it('keeps each scheme apart, and what is removed is rounded anew', async () => {
    await load(TEXT, { quantization: { head: 'int8' } });
    await load(TEXT, { quantization: { experts: 'int8' } });
    expect(kept()).toHaveLength(2);
    for (const one of await listKept()) await removeKept(one);
    expect(kept()).toEqual([]);
    const { events } = await load(TEXT, { quantization: { head: 'int8' } });
    expect(events.map(({ stage }) => stage)).toContain('quantize');
  });

  describe('heals what is kept', () => {
    const INT4 = { experts: 'int4-asymmetric', attention: 'int8' } as const;
    type Tensor = { name: string; offset: number; byteLength: number };
    /** Writes over the first part of that name. */
    const over =
      (part: string, bytes: (tensor: Tensor) => Buffer, at = 0) =>
      (file: string, tensors: readonly Tensor[]) => {
        const tensor = tensors.find(({ name }) => name.endsWith(part)) as Tensor;
        const content = readFileSync(file);
        bytes(tensor).copy(content, tensor.offset + at);
        writeFileSync(file, content);
      };
    const flip = (at: number) => (file: string) => {
      const content = readFileSync(file);
      content[at] = (content[at] as number) ^ 1;
      writeFileSync(file, content);
    };
    const folderAt = (path: string) => {
      rmSync(path, { recursive: true });
      mkdirSync(path);
    };
    const damages: readonly [string, (file: string, tensors: readonly Tensor[]) => void][] = [
      ['with a length of the header that is another', flip(0)],
      ['with a letter of the header that is another', flip(40)],
      [
        'with a NaN among scales of int8',
        over('q_proj.weight_scale', () => Buffer.from('0000c07f', 'hex'), 4),
      ],
      [
        'with an infinity among scales of int4',
        over('gate_proj.weight_scale', () => Buffer.from('807f', 'hex'), 2),
      ],
      [
        'with scales that a disk has lost',
        over('q_proj.weight_scale', ({ byteLength }) => Buffer.alloc(byteLength)),
      ],
      ['with another shape', over('.weight_shape', () => Buffer.from(BigInt64Array.of(8n, 31n).buffer))],
      ['with an impossible shape', over('.weight_shape', () => Buffer.alloc(16, 0xff))],
      ['cut short', (file) => truncateSync(file, statSync(file).size - 10)],
      ['longer than it was', (file) => appendFileSync(file, 'more')],
      ['of no bytes', (file) => truncateSync(file)],
      ['of zeros', (file) => writeFileSync(file, Buffer.alloc(statSync(file).size))],
      ['with a folder in its place', folderAt],
      [
        'with a link to nowhere in its place',
        (file) => {
          rmSync(file);
          symlinkSync(`${file}.gone`, file);
        },
      ],
      ['that is not there', (file) => rmSync(file)],
      ['beside a folder in place of about.json', (file) => folderAt(join(dirname(file), 'about.json'))],
      [
        'with a file in place of its folder',
        (file) => {
          rmSync(dirname(file), { recursive: true });
          writeFileSync(dirname(file), '');
        },
      ],
    ];
    it.each(damages)('%s', async (_, damage) => {
      const { logits, warnings: usual } = await load(TEXT, { quantization: INT4 });
      expect(usual.join()).not.toMatch(/damaged/);
      const file = join(cache, 'quantized', kept()[0] as string, 'weights.safetensors');
      const written = readFileSync(file);
      damage(file, [...(await readHeader(file)).values()]);
      const again = await load(TEXT, { quantization: INT4 });
      expect(again.logits).toEqual(logits);
      expect(again.warnings).toEqual([
        ...usual,
        `what is kept of ${TEXT} in ${dirname(file)} is damaged; it is made anew from the checkpoint`,
      ]);
      expect(readFileSync(file).equals(written)).toBe(true);
      expect((await load(TEXT, { quantization: INT4 })).warnings).toEqual(usual);
      expect(kept()).toHaveLength(1);
    });
  });

  it('is rounded anew where nobody could tell of which model it is', async () => {
    const { logits } = await load(TEXT, { quantization: { head: 'int8' } });
    truncateSync(join(cache, 'quantized', kept()[0] as string, 'about.json'));
    expect(await listKept()).toEqual([]);
    expect((await load(TEXT, { quantization: { head: 'int8' } })).logits).toEqual(logits);
    expect(await listKept()).toHaveLength(1);
  });

  it('leaves nothing behind when it is aborted', async () => {
    const controller = new AbortController();
    const loading = load(TEXT, {
      quantization: 'int8',
      signal: controller.signal,
      onProgress: ({ stage }) => stage === 'quantize' && controller.abort(),
    });
    await expect(loading).rejects.toThrow(AbortError);
    expect(kept()).toEqual([]);
  });

  it('rounds of a quantized checkpoint what is not quantized', async () => {
    const folder = QUANTIZED('qwen3_moe_gptq');
    const { logits: exact } = await load(folder);
    const { logits } = await load(folder, { quantization: 'int4' });
    expect((await listKept())[0]?.bytes).toBeLessThan(20_000);
    expect(maxDifference(logits, exact)).toBeLessThan(0.2);
    await expect(load(folder, { quantization: { experts: 'int4' } })).rejects.toThrow(
      /has nothing to round to experts int4 .*quantized already/,
    );
  });

  it('says which matrices get int8 because no group divides their columns', async () => {
    const { warnings } = await load(goldenModel('qwen2_moe_a'), {
      quantization: { experts: 'int4', groupSize: 64 },
    });
    expect(warnings.join()).toMatch(/get int8: .*down_proj\.weight/);
  });

  it('names the variable that helps where nothing can be kept', async () => {
    writeFileSync(join(cache, 'file'), '');
    vi.stubEnv('SWITCHYARD_CACHE', join(cache, 'file'));
    await expect(load(TEXT, { quantization: 'int8' })).rejects.toThrow(
      /cannot be kept: .*Set SWITCHYARD_CACHE/,
    );
  });
});

describe('a float64 checkpoint', () => {
  it('loads narrowed to float32, with a warning, and is narrowed once', async () => {
    const { folder, remove } = changedModel(TEXT, { config: { torch_dtype: 'float64' } });
    await widen(join(folder, 'model.safetensors'));
    try {
      const { logits: exact } = await load(TEXT);
      for (const _ of [1, 2]) {
        const { logits, warnings } = await load(folder, { dtype: 'auto' });
        expect(warnings.join()).toMatch(/float64 tensors are narrowed to float32.*embed_tokens/);
        expect(maxDifference(logits, exact)).toBeLessThan(1e-5);
      }
      expect(kept()).toHaveLength(1);
    } finally {
      remove();
    }
  });
});

describe('the option quantization', () => {
  it.each([
    ['int3', /quantization is "int3"; expected int8, int4, int4-asymmetric/],
    [{ experts: 'fp4' }, /quantization\.experts is "fp4"; expected int8/],
    [{ expert: 'int4' }, /"expert" is not an option. Did you mean "experts"\?/],
    [{ experts: 'int4', groupSize: 48 }, /quantization\.groupSize is 48; expected 32, 64, 128/],
    [{ experts: 'int8', groupSize: 32 }, /groupSize is 32, but int8 has one scale a row/],
    [{}, /quantization names nothing to round/],
  ])('%j is refused', async (quantization, message) => {
    const loading = load(TEXT, { quantization: quantization as never });
    await expect(loading).rejects.toThrow(InputError);
    await expect(loading).rejects.toThrow(message);
  });
});
