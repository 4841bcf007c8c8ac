// Loads a model on the GPU and measures what a person would notice: loading, prompts, decoding, switching backends, memory.
import { gpuIndex, median, promptsFor, SHORT_PROMPT, time, tokenIds } from '../compare/job.mjs';

export const BACKENDS = ['grouped_mm', 'batched_mm', 'eager'];
/** Backends whose steps can be recorded; eager waits for the GPU in the middle of a step. */
const RECORDABLE = ['grouped_mm', 'batched_mm'];
/** Steps of a kind before they are timed: two run plainly, one is recorded. */
const WARM_STEPS = 5;
/** Steps after each switch of backends. */
const STEPS_PER_SWITCH = 6;
const SWITCHED = ['grouped_mm', 'batched_mm'];

/**
 * Measures part by part. What fails is reported as `{ part, error }`, and the next part still runs, unless there is no model.
 *
 * @param library of dist/ or src/: { AutoModelForCausalLM, Device, listDevices, bytesPerToken(model) → bytes }
 * @param job { model, device, dtype, prompts, newTokens, rounds, steps, switches }
 * @param tell called with each part as { part, … }; times in seconds, rates in bytes a second
 */
export async function measureSession(library, job, tell) {
  const session = new Session(library, job);
  const parts = ['card', 'load', 'prefill', 'decode', 'recorded', 'switch', 'memory'];
  try {
    for (const part of parts) {
      try {
        tell({ part, ...(await session[part]()) });
      } catch (error) {
        tell({ part, error: error.message });
        if (session.model === undefined && part === 'load') return;
      }
    }
  } finally {
    await session.model?.dispose();
  }
}

class Session {
  model;
  #library;
  #job;

  constructor(library, job) {
    this.#library = library;
    this.#job = job;
  }

  /** Before anything else is there, for the copies want room. */
  async card() {
    const { Device } = this.#library;
    const gpu = await Device.open(gpuIndex(this.#job.device));
    const { name, major, minor, totalBytes } = gpu.info;
    const rates = [];
    for (let i = 0; i < 3; i++) rates.push(1e9 * (await gpu.measureCopyRate()));
    await gpu.dispose();
    return {
      name,
      computeCapability: `${major}.${minor}`,
      memoryBytes: totalBytes,
      copyRate: Math.max(...rates),
    };
  }

  async load() {
    const { AutoModelForCausalLM, bytesPerToken } = this.#library;
    const { model: source, device, dtype, rounds } = this.#job;
    const seconds = [];
    for (let round = 0; round < rounds; round++) {
      await this.model?.dispose();
      this.model = undefined;
      // A backend is to decode itself where it is measured.
      const options = { device, dtype, decodeWithBatchedMm: false };
      seconds.push(
        await time(async () => {
          this.model = await AutoModelForCausalLM.fromPretrained(source, options);
        }),
      );
    }
    const bytes = this.model.executionStats.residency.residentBytes;
    const perToken = await bytesPerToken(source);
    return { seconds: median(seconds), bytes, rate: bytes / median(seconds), bytesPerToken: perToken };
  }

  async prefill() {
    const { prompts, rounds } = this.#job;
    const fitting = prompts.filter((tokens) => tokens <= this.model.contextLength);
    const seconds = {};
    for (const backend of BACKENDS) {
      seconds[backend] = {};
      for (const tokens of promptsFor(backend, fitting)) {
        const times = [];
        for (let round = -1; round < rounds; round++) {
          const taken = await this.#decoding(backend, this.#ids(tokens, round + 1), 0, (decoding) =>
            time(() => decoding.prefill(1)),
          );
          if (round >= 0) times.push(taken);
        }
        seconds[backend][tokens] = median(times);
      }
    }
    return { seconds };
  }

  async decode() {
    await this.model.compile({ mode: 'default' });
    const seconds = {};
    for (const backend of BACKENDS) seconds[backend] = await this.#stepSeconds(backend);
    return { seconds };
  }

  async recorded() {
    await this.model.compile({ mode: 'reduce-overhead' });
    const seconds = {};
    for (const backend of RECORDABLE) seconds[backend] = await this.#stepSeconds(backend);
    const { captures, fault } = this.model.executionStats.graphs;
    if (fault !== undefined) throw new Error(`steps cannot be recorded: ${fault}`);
    return { seconds, captures };
  }

  /** Seconds that the first step on another backend takes beyond what its steps take afterwards. */
  async switch() {
    const extra = {};
    for (const mode of this.#modes()) {
      await this.model.compile({ mode });
      extra[mode === 'default' ? 'plain' : 'recorded'] = await this.#switches();
    }
    return { extra };
  }

  async memory() {
    const steps = Math.min(this.#job.steps, this.model.contextLength - SHORT_PROMPT);
    const run = async () => {
      for (const mode of this.#modes()) {
        await this.model.compile({ mode });
        await this.#steps('grouped_mm', steps);
      }
    };
    // The first time memory is found that the engine keeps for later.
    await run();
    const before = await this.#memoryInUse();
    await run();
    return { steps, before, after: await this.#memoryInUse() };
  }

  /** Modes of `compile`: with recorded steps too, unless recording one has failed. */
  #modes() {
    const { fault } = this.model.executionStats.graphs;
    return fault === undefined ? ['default', 'reduce-overhead'] : ['default'];
  }

  async #switches() {
    const rounds = this.#job.switches + SWITCHED.length;
    const setting = this.model.getExpertsImplementation();
    try {
      const count = rounds * STEPS_PER_SWITCH;
      // Not pinned: every step asks the model for its backend.
      return await this.#decoding(undefined, this.#ids(SHORT_PROMPT, 50), count, async (decoding) => {
        let { top } = await decoding.prefill(1);
        const step = async () => ({ top } = await decoding.step([0], [[top.ids[0]]], 1));
        const extra = [];
        for (let i = 0; i < rounds; i++) {
          const first = await time(async () => {
            this.model.setExpertsImplementation(SWITCHED[i % SWITCHED.length]);
            await step();
          });
          const others = [];
          for (let k = 1; k < STEPS_PER_SWITCH; k++) others.push(await time(step));
          // At first each of the two is warmed up, or recorded.
          if (i >= SWITCHED.length) extra.push(first - median(others));
        }
        return median(extra);
      });
    } finally {
      this.model.setExpertsImplementation(setting);
    }
  }

  /** Median of the seconds of a decode step. */
  async #stepSeconds(backend) {
    const times = await this.#steps(backend, WARM_STEPS + this.#job.newTokens);
    return median(times.slice(WARM_STEPS));
  }

  #steps(backend, count) {
    return this.#decoding(backend, this.#ids(SHORT_PROMPT, 50), count, async (decoding) => {
      let { top } = await decoding.prefill(1);
      const times = [];
      for (let i = 0; i < count; i++)
        times.push(await time(async () => ({ top } = await decoding.step([0], [[top.ids[0]]], 1))));
      return times;
    });
  }

  async #decoding(expertsImplementation, ids, newTokens, use) {
    const decoding = await this.model.openDecoding({
      prompts: [{ ids }],
      newTokens,
      expertsImplementation,
    });
    try {
      return await use(decoding);
    } finally {
      decoding.dispose();
    }
  }

  #ids(count, seed) {
    return tokenIds(count, seed, this.model.vocabSize);
  }

  async #memoryInUse() {
    const devices = await this.#library.listDevices();
    const { totalBytes, freeBytes } = devices[gpuIndex(this.#job.device)];
    return totalBytes - freeBytes;
  }
}
