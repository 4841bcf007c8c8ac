import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

/**
 * How long a test, a hook or a wait may take, in milliseconds. It ends what hangs and says nothing about speed: a busy machine
 * takes many times as long as an idle one (the kernels under a sanitizer over 20 minutes beside four loops), and must pass the same tests.
 */
const PATIENCE = 60 * 60_000;

const SLOW = 'test/**/*.slow.test.ts';

/** Those that compile for minutes begin, or a clean clone ends with one of them and idle processors. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Parameters<BaseSequencer['sort']>[0]) {
    const rank = ({ moduleId }: (typeof files)[number]) => (moduleId.includes('sanitizer') ? 0 : 1);
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    testTimeout: PATIENCE,
    hookTimeout: PATIENCE,
    teardownTimeout: PATIENCE,
    expect: { poll: { timeout: PATIENCE } },
    restoreMocks: true,
    sequence: { sequencer: LongestFirst },
    setupFiles: ['test/set-up.ts'],
    // Vitest itself leaves one idle.
    maxWorkers: availableParallelism(),
    // `npm test` runs the quick ones, `npm run test:all` both.
    projects: [
      // Their files share a process, which takes half the time: loading everything anew costs more than most tests. See set-up.ts.
      {
        extends: true,
        test: { name: 'quick', include: ['test/**/*.test.ts'], exclude: [SLOW], isolate: false },
      },
      { extends: true, test: { name: 'slow', include: [SLOW] } },
    ],
  },
});
