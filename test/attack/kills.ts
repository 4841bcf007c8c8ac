/** Processes killed in the middle of a download. */
import { setTimeout as sleep } from 'node:timers/promises';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { below } from '../helpers/mutate.ts';
import { QUICK } from '../hub/helpers.ts';
import { type Attack, runChild, withFolder } from './ground.ts';
import { damagedFile, hubVariables, ID, incompleteNames, NAMES, withHub } from './hub.ts';

export const kills: Attack = {
  name: 'kills',
  round: (random, { library }) =>
    withFolder((cache) =>
      withHub(async (hub) => {
        const times = 1 + below(random, 4);
        for (let n = 0; n < times; n++) {
          const pause = 250 + 600 * random();
          hub.fault = () => ({ wait: sleep(5) });
          await runChild(
            'download.mjs',
            [library, ID, ...NAMES],
            async (kill) => {
              await sleep(pause);
              kill('SIGKILL');
            },
            hubVariables(hub, cache),
          );
          const visible = await damagedFile(cache);
          if (visible) return `${visible} is visible and not whole after ${n + 1} kills`;
        }
        hub.fault = () => undefined;
        const options = { cacheDir: cache };
        await (await resolveRepo(ID, options, QUICK)).requireAll(NAMES);
        const damaged = await damagedFile(cache);
        if (damaged) return `${damaged} is not whole in the end`;
        const left = await incompleteNames(cache);
        return left.length === 0 ? undefined : `left behind: ${left}`;
      }, cache),
    ),
};
