import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/**
 * How long a test, a hook or a wait may take, in milliseconds. It ends what hangs and says nothing about speed: a busy machine
 * takes many times as long as an idle one, and must pass the same tests.
 */
const PATIENCE = 20 * 60_000;

const SLOW = 'test/**/*.slow.test.ts';

export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    testTimeout: PATIENCE,
    hookTimeout: PATIENCE,
    teardownTimeout: PATIENCE,
    expect: { poll: { timeout: PATIENCE } },
    restoreMocks: true,
    setupFiles: ['test/set-up.ts'],
    // Vitest itself leaves one idle.
    maxWorkers: availableParallelism(),
    // `npm test` runs the quick ones, `npm run test:all` both.
    projects: [
      { extends: true, test: { name: 'quick', include: ['test/**/*.test.ts'], exclude: [SLOW] } },
      { extends: true, test: { name: 'slow', include: [SLOW] } },
    ],
  },
});
