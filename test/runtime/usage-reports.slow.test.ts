import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { entries, folder, run } from './usage-reports.ts';

/** Reports go out some ten seconds after the engine has opened, or when the process ends. */
const STAY = 15_000;

const canTrace = spawnSync('strace', ['-f', '-o', '/dev/null', process.execPath, '-e', '0']).status === 0;

it.skipIf(!canTrace).each(Object.entries(entries))(
  '%s opens no socket to any host (needs strace, and leave to use it)',
  async (_, command) => {
    const trace = join(folder, 'trace');
    await run(['strace', '-f', '-e', 'trace=socket,connect', '-o', trace, ...command(STAY)]);
    const network = readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => /AF_INET|nscd/.test(line));
    expect(network).toEqual([]);
  },
);
