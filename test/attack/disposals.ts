/** Two models in one process, of which one is disposed of in the midst of calls. */
import { below } from '../helpers/mutate.ts';
import { type Attack, runChild, withFolder } from './ground.ts';

export const disposals: Attack = {
  name: 'disposals',
  round: (random, { library, model }) =>
    withFolder(async (folder) => {
      const seed = below(random, 2 ** 31);
      const args = [library, model, folder, String(seed)];
      const { code, signal, stdout, stderr } = await runChild('abandon.mjs', args);
      if (code !== 0) return `seed ${seed}: ended with ${signal ?? `code ${code}`}: ${stderr.slice(-500)}`;
      const faults = JSON.parse(stdout) as string[];
      return faults.length === 0 ? undefined : `seed ${seed}: ${faults.join('; ')}`;
    }),
};
