/** Processes that end, or are told to, while the library works. */
import { setTimeout as sleep } from 'node:timers/promises';
import { below, pick } from '../helpers/mutate.ts';
import { type Attack, runChild } from './ground.ts';

/** How `leave.mjs` ends itself, and the code that it must end with. */
const WAYS: Readonly<Record<string, number>> = { exit: 7, return: 0, throw: 1, reject: 1 };
const SIGNALS: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'];

export const exits: Attack = {
  name: 'exits',
  async round(random, { library, model }) {
    const pause = below(random, 700);
    const busy = pick(random, ['load', 'generate', 'forward', 'compile', 'dispose']);
    if (random() < 0.4) {
      const sent = pick(random, SIGNALS);
      const { code, signal, stderr } = await runChild(
        'leave.mjs',
        [library, model, busy, 'stay', '0'],
        async (kill) => {
          await sleep(pause);
          kill(sent);
        },
      );
      return signal === sent && stderr === ''
        ? undefined
        : `${sent} ${pause} ms into ${busy}: ${signal ?? code}: ${stderr.slice(-500)}`;
    }
    const way = pick(random, Object.keys(WAYS));
    const { code, signal, stderr } = await runChild('leave.mjs', [library, model, busy, way, String(pause)]);
    return code === WAYS[way]
      ? undefined
      : `${way} ${pause} ms into ${busy}: ${signal ?? `code ${code}`}: ${stderr.slice(-500)}`;
  },
};
