/** Workers that are terminated in the middle of anything. */
import { below } from '../helpers/mutate.ts';
import { terminateWorkers } from '../runtime/terminations.ts';
import type { Attack } from './ground.ts';

export const workers: Attack = {
  name: 'workers',
  async round(random) {
    const count = 3 + below(random, 6);
    // It rejects when the process that they live in dies.
    return terminateWorkers(count).then(
      () => undefined,
      (error: Error) => error.message.slice(-800),
    );
  },
};
