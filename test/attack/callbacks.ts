/** Streamers, criteria, processors and signals that misbehave. */
import { below } from '../helpers/mutate.ts';
import { type Attack, runChild } from './ground.ts';

export const callbacks: Attack = {
  name: 'callbacks',
  async round(random, { library, model }) {
    const seed = below(random, 2 ** 31);
    const { code, signal, stdout, stderr } = await runChild('misbehave.mjs', [library, model, String(seed)]);
    if (code !== 0) return `seed ${seed}: ended with ${signal ?? `code ${code}`}: ${stderr.slice(-500)}`;
    const faults = JSON.parse(stdout) as string[];
    return faults.length === 0 ? undefined : `seed ${seed}: ${faults.join('; ')}`;
  },
};
