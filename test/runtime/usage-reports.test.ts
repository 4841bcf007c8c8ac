import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { entries, home, module, run, writeScript } from './usage-reports.ts';

// ONNX Runtime for Linux keeps and sends reports of its use unless it is told not to. Nothing may be stored or sent unasked.

describe.each(Object.entries(entries))('%s', (_, command) => {
  it('leaves nothing in the home folder', async () => {
    await run(command(500));
    expect(readdirSync(home, { recursive: true })).toEqual([]);
  });
});

describe('ORT_DISABLE_TELEMETRY', () => {
  // A library that is none: the engine's environment is ready by then, and nothing can be sent.
  const afterwards = (environment: Record<string, string>) => {
    const script = `
      const { engineVersion } = await import(${module('runtime/binding.js')});
      try { engineVersion(); } catch ({ name, message }) {
        if (!/cannot open ONNX Runtime/.test(message)) throw new Error(message);
      }
      console.log(process.env.ORT_DISABLE_TELEMETRY);`;
    const none = writeScript('none.so', 'not a library');
    return run([process.execPath, writeScript('after.mjs', script)], {
      SWITCHYARD_ONNXRUNTIME: none,
      ...environment,
    });
  };

  it('is set before the engine opens', async () => {
    expect(await afterwards({})).toBe('1\n');
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: '' })).toBe('1\n');
  });

  it('stays as the user has set it', async () => {
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: '0' })).toBe('0\n');
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: 'true' })).toBe('true\n');
  });
});
