import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { LoadOptions } from '../../src/auto/load-options.ts';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  InputError,
  recordRouting,
} from '../../src/index.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { Device, type DeviceInfo, type DeviceWeights, listDevices } from '../../src/runtime/device.ts';
import { openSession } from '../../src/runtime/session.ts';
import { readTensor } from '../../src/runtime/tensors.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import {
  type GoldenModel,
  type GoldenPrompt,
  goldenModel,
  maxDifference,
  readJson,
} from '../helpers/goldens.ts';
import { buildEmulatedLibrary } from '../kernels/cuda/emulation.ts';
import { encodeModel } from '../runtime/onnx-model.ts';

/** Accepted differences to transformers in float32, as on the CPU. */
const LOGITS = 1e-4;
/** Enough to record decode steps and replay them; the goldens have more. */
const TOKENS = 10;
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];
const SMALL = 'qwen3_moe_d';

/** SWITCHYARD_TEST_DEVICE=cuda (or cuda:N) runs the same cases on a card, with the library that build-cuda.mjs made. */
const card = process.env.SWITCHYARD_TEST_DEVICE as LoadOptions['device'];
const device = card ?? 'cuda';
/** What the system keeps for a process that has used a card may differ by so much from one look to the next. */
const CARD_SLACK = 4 * 2 ** 20;
/** For cases that set what only the emulation lets one set: its memory and how many devices it has. */
const onlyEmulated = it.skipIf(card !== undefined);

const environment = { ...process.env };

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')(
  card ? `a model on ${card}` : 'a model on an emulated GPU',
  () => {
    let library: string | undefined;
    beforeAll(async () => {
      if (card === undefined) library = await buildEmulatedLibrary();
    });
    const emulate = (settings: Record<string, string> = {}) => {
      if (library !== undefined)
        Object.assign(process.env, { SWITCHYARD_CUDA_LIBRARY: library, ...settings });
    };
    afterEach(() => {
      for (const name of ['CUDA_LIBRARY', 'EMULATED_MEMORY', 'EMULATED_DEVICES'])
        delete process.env[`SWITCHYARD_${name}`];
      Object.assign(process.env, environment);
    });

    const golden = (name: string): GoldenModel => {
      const own = readJson<GoldenModel>(goldenModel(name), 'expected.json');
      return own.same_as ? readJson(goldenModel(own.same_as), 'expected.json') : own;
    };
    /** The model and what tells of its device. */
    const open = async (name: string, options: LoadOptions = {}) => {
      emulate();
      const settings: LoadOptions = { dtype: 'float32', device, threads: 2, ...options };
      const parts = await loadModel(goldenModel(name), settings, 'logits');
      return { model: new CausalLM(parts), engine: parts.engine };
    };
    const expectLogits = async (model: CausalLM, { input_ids: ids, logits_first8: first8 }: GoldenPrompt) => {
      const { logits } = await model.forward({ inputIds: [ids] });
      const vocab = logits.dims[2] as number;
      for (const position of ids.keys()) {
        const row = (logits.data as Float32Array).slice(position * vocab, position * vocab + 8);
        expect(maxDifference(row, first8[position] as number[])).toBeLessThan(LOGITS);
      }
    };
    const first = (name: string) => golden(name).prompts[0] as GoldenPrompt;
    const generate = async (model: CausalLM, prompt: GoldenPrompt, more = {}) => {
      const { sequences } = await model.generate({ inputIds: [prompt.input_ids], ...GREEDY, ...more });
      return sequences[0]?.slice(prompt.input_ids.length);
    };

    it('decodes few rows with batched_mm where grouped_mm was asked for, unless that is turned off', async () => {
      const { prompts, moe_layers: layers } = golden(SMALL);
      const { input_ids: ids, greedy } = prompts[0] as GoldenPrompt;
      const generate = (model: CausalLM, options = {}) =>
        model.generate({ inputIds: [ids], ...GREEDY, maxNewTokens: 3, ...options });
      const { model } = await open(SMALL);
      const [mixed, eager] = await Promise.all([
        generate(model),
        generate(model, { expertsImplementation: 'eager' }),
      ]);
      expect(mixed.sequences[0]?.slice(ids.length)).toEqual(greedy.tokens.slice(0, 3));
      expect(mixed.stats.expertsCalls).toEqual({ grouped_mm: layers.length, batched_mm: 2 * layers.length });
      expect(eager.stats.expertsCalls).toEqual({ eager: 3 * layers.length });
      expect(model.getExpertsImplementation()).toEqual({ '': 'grouped_mm' });
      expect(model.executionStats).toMatchObject({ decodeBackend: 'batched_mm', graphs: { captures: 0 } });
      await model.dispose();
      const { model: plain } = await open(SMALL, { decodeWithBatchedMm: false });
      expect((await generate(plain)).stats.expertsCalls).toEqual({ grouped_mm: 3 * layers.length });
      await plain.compile({ mode: 'reduce-overhead' });
      expect((await generate(plain, { maxNewTokens: 6 })).sequences[0]?.slice(ids.length)).toEqual(
        greedy.tokens.slice(0, 6),
      );
      expect(plain.executionStats).toMatchObject({
        compileMode: 'reduce-overhead',
        graphs: { fault: undefined },
      });
      expect(plain.executionStats.graphs?.captures).toBeGreaterThan(0);
      await plain.dispose();
    });

    it('computes in bfloat16 and float16 near float32', async () => {
      const prompt = golden(SMALL).prompts.at(-1) as GoldenPrompt;
      for (const dtype of ['bfloat16', 'float16'] as const) {
        const { model } = await open(SMALL, { dtype });
        const { logits } = await model.forward({ inputIds: [prompt.input_ids] });
        const last = (logits.data as Float32Array).slice(0, 8);
        const difference = maxDifference(last, prompt.logits_first8[0] as number[]);
        expect(difference).toBeLessThan(dtype === 'float16' ? 0.02 : 0.2);
        expect(difference).toBeGreaterThan(0);
        expect((await generate(model, prompt))?.length).toBe(TOKENS);
        await model.dispose();
      }
    });

    it('reads pictures', async () => {
      emulate();
      const source = goldenModel('qwen3_vl_moe_e');
      const { prompts } = readJson<{ prompts: (GoldenPrompt & { images: string[]; text: string })[] }>(
        source,
        'expected.json',
      );
      const prompt = prompts.find(({ images }) => images.length > 0) as (typeof prompts)[0];
      const processor = await AutoProcessor.fromPretrained(source);
      const inputs = await processor({
        text: prompt.text,
        images: prompt.images.map((name) => join(source, 'images', `${name}.png`)),
      });
      const options = { dtype: 'float32', device, threads: 2 } as const;
      const model = await AutoModelForImageTextToText.fromPretrained(source, options);
      const { logits } = await model.forward(inputs);
      const vocab = logits.dims[2] as number;
      for (const position of prompt.input_ids.keys()) {
        const row = (logits.data as Float32Array).slice(position * vocab, position * vocab + 8);
        expect(maxDifference(row, prompt.logits_first8[position] as number[])).toBeLessThan(LOGITS);
      }
      await model.dispose();
    });

    it('replays decode steps, records anew for another backend', async () => {
      const { model, engine } = await open(SMALL, { decodeWithBatchedMm: false });
      const prompt = first(SMALL);
      const expected = prompt.greedy.tokens.slice(0, TOKENS);
      expect(await generate(model, prompt)).toEqual(expected);
      expect(engine.recording.captures).toBe(0);
      engine.recording.enabled = true;
      expect(await generate(model, prompt)).toEqual(expected);
      expect(engine.recording.captures).toBe(1);
      const switched = { expertsImplementation: 'batched_mm' };
      expect(await generate(model, prompt, switched)).toEqual(expected);
      expect(engine.recording.captures).toBe(2);
      // Both outlive the calls that made them.
      expect(await generate(model, prompt)).toEqual(expected);
      expect(await generate(model, prompt, switched)).toEqual(expected);
      expect(engine.recording.captures).toBe(2);
      await model.dispose();
    });

    it('grows a cache with what it holds, and records steps anew after that', async () => {
      const { model, engine } = await open('qwen2_moe_window');
      const long = { ...first(SMALL), input_ids: Array.from({ length: 251 }, (_, i) => 1 + (i % 40)) };
      const plain = await generate(model, long, { maxNewTokens: 11 });
      engine.recording.enabled = true;
      expect(await generate(model, long, { maxNewTokens: 11 })).toEqual(plain);
      // One recording before the cache grows beyond 256 positions, one after.
      expect(engine.recording.captures).toBe(2);
      await model.dispose();
      const onCpu = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen2_moe_window'), {
        dtype: 'float32',
        device: 'cpu',
      });
      expect(await generate(onCpu, long, { maxNewTokens: 11 })).toEqual(plain);
      await onCpu.dispose();
    });

    it('warns once and runs plainly where steps cannot be recorded', async () => {
      const warnings: string[] = [];
      const { model, engine } = await open(SMALL, { onWarning: (text) => warnings.push(text) });
      engine.recording.enabled = true;
      const prompt = first(SMALL);
      const eager = { expertsImplementation: 'eager' };
      expect(await generate(model, prompt, eager)).toEqual(prompt.greedy.tokens.slice(0, TOKENS));
      expect(await generate(model, prompt, eager)).toEqual(prompt.greedy.tokens.slice(0, TOKENS));
      expect(warnings).toEqual([
        expect.stringMatching(/without graphs.*the eager backend waits for the GPU/),
      ]);
      await model.dispose();
    });

    it('fetches experts on demand under maxMemory, and says how much it needs at least', async () => {
      const refusal = await open(SMALL, { maxMemory: 1000 }).catch((error: unknown) => error as Error);
      expect(refusal).toBeInstanceOf(InputError);
      const least = Number((refusal as Error).message.match(/at least .* \((\d+) bytes\)/)?.[1]);
      const { model, engine } = await open(SMALL, { maxMemory: least });
      const prompt = first(SMALL);
      await expectLogits(model, golden(SMALL).prompts.at(-1) as GoldenPrompt);
      for (const backend of BACKENDS)
        expect(await generate(model, prompt, { expertsImplementation: backend })).toEqual(
          prompt.greedy.tokens.slice(0, TOKENS),
        );
      const stats = engine.weights?.stats;
      expect(stats?.residentBytes).toBeLessThanOrEqual(least);
      expect(stats?.hits).toBeGreaterThan(0);
      expect(stats?.fetches).toBeGreaterThan(engine.model.routed?.count ?? Infinity);
      expect(stats?.fetchedBytes).toBeGreaterThan(0);
      await model.dispose();
      await expect(open(SMALL, { maxMemory: least - 1 })).rejects.toThrow(InputError);
    });

    it('keeps pinned experts under maxMemory, as often wanted as their recording says', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'switchyard-pinned-'));
      const file = join(folder, 'run.jsonl');
      const prompt = first(SMALL);
      const { model: recorded, engine: whole } = await open(SMALL);
      const recorder = await recordRouting(recorded, file);
      const tokens = await generate(recorded, prompt);
      await recorder.close();
      await recorded.dispose();
      const { count = 0, layers = [] } = whole.model.routed ?? {};
      await expect(open(SMALL, { pinnedExperts: file })).rejects.toThrow(
        /no effect: the GPU holds all experts/,
      );

      const refusal: Error = await open(SMALL, { maxMemory: 1000 }).catch((error) => error);
      const least = Number(refusal.message.match(/at least .* \((\d+) bytes\)/)?.[1]);
      await expect(open(SMALL, { maxMemory: least, pinnedExperts: file })).rejects.toThrow(
        /^maxMemory leaves room for \d+ experts, of which \d+ must be free/,
      );
      const slot = recorded.routingHeader.expertBytes * 2; // float32 of bfloat16
      for (const maxBytes of [undefined, slot]) {
        const pinnedExperts = { file, ...(maxBytes !== undefined && { maxBytes }) };
        const { model, engine } = await open(SMALL, { maxMemory: least + 3 * slot, pinnedExperts });
        const wanted = Math.min(3, Math.floor((count + 3) / 2), maxBytes === undefined ? 3 : 1);
        expect(engine.weights?.stats.pinned).toBe(wanted);
        expect(wanted).toBeLessThan(count * layers.length);
        expect(await generate(model, prompt)).toEqual(tokens);
        const { experts, predictedHitRate, hitRate } = model.executionStats.pinnedExperts ?? {};
        expect(experts).toBe(wanted);
        expect(hitRate).toBeGreaterThan(0);
        expect(hitRate).toBeCloseTo(predictedHitRate as number, 12);
        // What is not pinned comes and goes.
        expect(engine.weights?.stats.fetches).toBeGreaterThan(wanted);
        await model.dispose();
      }
      rmSync(folder, { recursive: true });
    });

    it('reports the upload up to its end', async () => {
      const events: { stage: string; loadedBytes: number; fileBytes: number }[] = [];
      const { model } = await open(SMALL, { onProgress: (event) => events.push(event) });
      const loads = events.filter(({ stage }) => stage === 'load');
      expect(loads.length).toBeGreaterThan(1);
      expect(loads.at(-1)?.loadedBytes).toBe(loads.at(-1)?.fileBytes);
      await model.dispose();
    });

    onlyEmulated('names the tensor that does not fit, and the memory', async () => {
      emulate({ SWITCHYARD_EMULATED_MEMORY: '200000' });
      await expect(
        AutoModelForCausalLM.fromPretrained(goldenModel(SMALL), { device: 'cuda', dtype: 'float32' }),
      ).rejects.toThrow(/tensor '\S+' \(.* is the first without room.*of 0\.2 MB are free.*maxMemory/);
    });

    it('takes the GPU for auto', async () => {
      emulate();
      const auto = await loadModel(goldenModel(SMALL), { device: 'auto' }, 'logits');
      const [{ name }] = (await listDevices()) as [DeviceInfo];
      expect(auto.engine.weights?.device.name).toBe(name);
      if (card === undefined) expect(name).toBe('Emulated GPU');
      await auto.release();
      const cached = loadModel(goldenModel(SMALL), { device: 'auto', cacheDtype: 'float32' }, 'logits');
      await expect(cached).rejects.toThrow(/on a GPU the cache has the model's dtype/);
    });

    onlyEmulated('takes the CPU for auto where there is no GPU', async () => {
      emulate({ SWITCHYARD_EMULATED_DEVICES: '0' });
      const none = await loadModel(goldenModel(SMALL), { device: 'auto' }, 'logits');
      expect(none.engine.weights).toBeUndefined();
      await none.release();
      await expect(open(SMALL)).rejects.toThrow(/there is no GPU 0: found none/);
      delete process.env.SWITCHYARD_EMULATED_DEVICES;
      await expect(open(SMALL, { device: 'cuda:3' })).rejects.toThrow(
        /no GPU 3: found Emulated GPU; count from 0/,
      );
    });

    it('has all of its memory back when the model is disposed of', async () => {
      const used = ({ totalBytes, freeBytes }: DeviceInfo) => totalBytes - freeBytes;
      const usedAfterwards = async () => {
        const { model, engine } = await open(SMALL);
        engine.recording.enabled = true;
        await generate(model, first(SMALL), { maxNewTokens: 6 });
        expect(engine.recording.captures).toBe(1);
        const { index, info } = (engine.weights as DeviceWeights).device;
        expect(used(info)).toBeGreaterThan(500_000);
        await model.dispose();
        return used((await listDevices())[index] as DeviceInfo);
      };
      const kept = await usedAfterwards();
      // A driver keeps something for a process that has used a card; it must not become more.
      if (card === undefined) expect(kept).toBe(0);
      expect(await usedAfterwards()).toBeLessThanOrEqual(kept + (card ? CARD_SLACK : 0));
    });

    it('reads and writes device tensors in a session, and refuses freed ones', async () => {
      emulate();
      const gpu = await Device.open(Number(device.split(':')[1] ?? 0));
      const store = openWeightStore([]);
      const weights = gpu.openWeights(store, 'float32');
      const model = encodeModel({
        inputs: [{ name: 'x', type: 'float32', shape: ['n'] }],
        outputs: [{ name: 'y', type: 'float32', shape: ['n'] }],
        nodes: [{ op: 'Neg', domain: '', inputs: ['x'], outputs: ['y'] }],
      });
      const session = await openSession(model, { store, weights, threads: 1 });
      const memory = await gpu.allocate(16, 'a test');
      const [x, y] = [memory.tensor('float32', [2]), memory.tensor('float32', [2], 8)];
      await memory.write(new Uint8Array(Float32Array.of(1, -2).buffer));
      expect((await session.run({ x }, { y })).y).toBe(y);
      expect([...((await readTensor(y)) as Float32Array)]).toEqual([-1, 2]);
      expect(() => memory.tensor('float32', [2], 12)).toThrow(/8 bytes from byte 12 .* memory of 16/);
      memory.dispose();
      await expect(session.run({ x }, { y: null })).rejects.toThrow(/device memory was freed/);
      await session.dispose();
      await weights.dispose();
      await gpu.dispose();
      store.dispose();
    });

    onlyEmulated('lists its devices', async () => {
      emulate({ SWITCHYARD_EMULATED_DEVICES: '2', SWITCHYARD_EMULATED_MEMORY: '5000' });
      const devices = await listDevices();
      expect(devices.map(({ pciId, totalBytes }) => [pciId, totalBytes])).toEqual([
        ['0000:01:00.0', 5000],
        ['0000:02:00.0', 5000],
      ]);
      const second = await Device.open(1);
      expect(second.info.major).toBe(8);
      await expect(second.allocate(1e12, 'everything')).rejects.toThrow(/no room for everything: 1000 GB/);
      await second.dispose();
      expect(() => second.info).toThrow(/the device is disposed/);
    });
  },
);
