import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { killIfIdle } from './idle.ts';

const patience = { looks: 5, milliseconds: 20 };

function start(code: string) {
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  return { child, said: once(child.stdout, 'data') };
}

// Only Linux tells what threads do.
test.skipIf(process.platform !== 'linux')(
  'a program that waits for ever is killed, one that works is not',
  async () => {
    const waiting = start(
      'const stay = new Int32Array(new SharedArrayBuffer(4)); console.log(1); Atomics.wait(stay, 0, 0)',
    );
    await waiting.said;
    expect(await killIfIdle(waiting.child, patience)).toBe(true);
    const working = start('console.log(1); for (;;) if (process.cpuUsage().user > 3e5) break');
    await working.said;
    expect(await killIfIdle(working.child, patience)).toBe(false);
    expect(working.child.exitCode).toBe(0);
  },
);
