#!/usr/bin/env node
// Attacks the library in random mixtures (test/attack): a hub that lies, kills in mid-download, changed configurations and weights,
// callbacks that misbehave, terminated workers, models disposed of in the midst of calls, processes that leave. Ends with 1 where something fell.
//
//   npm run attack -- [--minutes N] [--seed S] [--only KIND]
//
// With --only, the seed of a fault that was printed plays its round again as the first one; --minutes 0 stops after it.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const KINDS = ['hub', 'kills', 'configs', 'files', 'callbacks', 'workers', 'disposals', 'exits'];
const root = dirname(dirname(fileURLToPath(import.meta.url)));

function readOptions() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      seed: { type: 'string' },
      only: { type: 'string' },
    },
  });
  const { minutes, seed, only } = values;
  if (!(Number(minutes) >= 0)) throw new Error(`--minutes is ${minutes}; expected a number`);
  if (seed !== undefined && !/^\d{1,10}$/.test(seed))
    throw new Error(`--seed is ${seed}; expected a whole number`);
  if (only !== undefined && !KINDS.includes(only))
    throw new Error(`--only is ${only}; expected one of ${KINDS.join(', ')}`);
  return { minutes, seed, only };
}

try {
  const { minutes, seed, only } = readOptions();
  const env = { ...process.env, SWITCHYARD_ATTACK_MINUTES: minutes };
  if (seed !== undefined) env.SWITCHYARD_ATTACK_SEED = seed;
  if (only !== undefined) env.SWITCHYARD_ATTACK_ONLY = only;
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  // Its patience is for single tests; an attack may take hours.
  const patience = String((Number(minutes) + 60) * 60_000);
  const args = ['run', '--config', 'configs/vitest.config.ts', '--project', 'slow', 'test/attack'];
  const { status } = spawnSync(process.execPath, [vitest, ...args, '--testTimeout', patience], {
    cwd: root,
    stdio: 'inherit',
    env,
  });
  process.exitCode = status ?? 1;
} catch (error) {
  console.error(`attack: ${error.message}`);
  process.exitCode = 2;
}
