import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Io } from '../../src/cli/io.ts';
import { measureAhead } from '../../src/cli/measure-ahead.ts';
import type { CausalLM, CompileOptions, MeasureOptions } from '../../src/index.ts';

const LINE = 'measuring the experts backends, once for this model, in at most half a minute\n';

/** A model of which only what is measured counts. */
function standIn(experts: string) {
  const modes: unknown[] = [];
  const tell = ({ onProgress }: MeasureOptions) => {
    for (const done of [0, 1, 2]) onProgress?.({ tokens: 4, done, total: 2 });
  };
  const model = {
    getExpertsImplementation: () => ({ '': experts }),
    compile: async (options: CompileOptions) => {
      modes.push(options.mode);
      if (options.mode !== 'default') tell(options);
    },
    measureExperts: async (options: MeasureOptions) => {
      modes.push('auto');
      tell(options);
    },
  };
  return { model: model as unknown as CausalLM, modes };
}

function terminal(isTTY: boolean) {
  const stderr: PassThrough & { isTTY?: boolean } = new PassThrough();
  stderr.isTTY = isTTY;
  const io = { stderr, stop: new AbortController().signal } as unknown as Io;
  return { io, shown: () => String(stderr.read() ?? '') };
}

describe('measuring ahead', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('measures what was asked for, and nothing else', async () => {
    for (const [experts, compile, expected] of [
      ['grouped_mm', undefined, []],
      ['grouped_mm', true, ['default']],
      ['grouped_mm', 'max-autotune', ['max-autotune']],
      ['auto', undefined, ['auto']],
    ] as const) {
      const { model, modes } = standIn(experts);
      await measureAhead(model, compile, terminal(false).io);
      expect(modes).toEqual(expected);
    }
  });

  it('says so in a line, where there is no terminal, and nothing where nothing is measured', async () => {
    const { io, shown } = terminal(false);
    await measureAhead(standIn('auto').model, undefined, io);
    expect(shown()).toBe(LINE);
    await measureAhead(standIn('eager').model, true, io);
    expect(shown()).toBe('');
    vi.stubEnv('HF_HUB_DISABLE_PROGRESS_BARS', '1');
    await measureAhead(standIn('auto').model, undefined, io);
    expect(shown()).toBe('');
  });

  it('redraws a line on a terminal, and leaves none', async () => {
    const { io, shown } = terminal(true);
    await measureAhead(standIn('grouped_mm').model, 'max-autotune', io);
    const frames = shown().split('\r\x1b[K');
    expect(frames).toEqual([
      '',
      ...[0, 1, 2].map((done) => `measuring the experts backends: ${done} of 2, passes of 4 tokens`),
      '',
    ]);
  });
});
