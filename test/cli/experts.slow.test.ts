import { describe, expect, test } from 'vitest';
import { run } from './capture.ts';

/** Backends differ by rounding alone. */
const EXACT = ['--dtype', 'float32', '--temperature', '0'];

const MEASURING = 'measuring the experts backends, once for this model, in at most half a minute\n';

describe('switchyard experts', () => {
  test('measures the backends, shows table and chart, and knows them the next time', async () => {
    const first = await run(['experts', '--threads', '1']);
    expect(first).toMatchObject({ exitCode: 0, stderr: MEASURING });
    expect(first.stdout).toMatch(/^a pass on the CPU, milliseconds, measured now$/m);
    expect(first.stdout).toMatch(/^ +tokens +eager +batched_mm +grouped_mm +auto$/m);
    expect(first.stdout).toMatch(/^ +1( +\d\S*){3} +(eager|batched_mm|grouped_mm)$/m);
    // In each row one backend is the fastest.
    expect(first.stdout.match(/ #+ 100%$/gm)?.length).toBeGreaterThanOrEqual(
      first.stdout.match(/^ +\d+ {2}eager/gm)?.length as number,
    );
    const { stdout, stderr } = await run(['experts', '--threads', '1', '--json']);
    expect(stderr).toBe('');
    const { tuning, device, model } = JSON.parse(stdout);
    expect({ source: tuning.source, device, model }).toEqual({
      source: 'cache',
      device: 'cpu',
      model: 'demo',
    });
    for (const { backend, milliseconds } of tuning.table) {
      // The default stays where it comes close.
      if (backend !== 'grouped_mm') expect(milliseconds[backend]).toBeLessThan(milliseconds.grouped_mm);
    }
  });

  test('generate takes auto as a backend', async () => {
    const plain = await run(['generate', '--input-ids', '5,6,7', '-n', '3', '--ignore-eos', ...EXACT]);
    const auto = await run([
      'generate',
      '--input-ids',
      '5,6,7',
      '-n',
      '3',
      '--ignore-eos',
      ...EXACT,
      '--experts',
      'auto',
    ]);
    expect(auto).toEqual({ ...plain, stderr: expect.stringMatching(`^(${MEASURING})?$`) });
  });
});
