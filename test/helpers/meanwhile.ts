import { expect } from 'vitest';

/**
 * Waits for something that work brings about, and fails with what the work came to where that ends first: nobody then waits for what
 * will not happen any more.
 */
export async function meanwhile(work: Promise<unknown>, happened: () => unknown): Promise<void> {
  let isOver = false;
  const early = work.then(
    (result) => {
      if (!isOver) throw new Error(`it ended too early, with ${JSON.stringify(result)}`);
    },
    (error: unknown) => {
      if (!isOver) throw error;
    },
  );
  await Promise.race([expect.poll(async () => Boolean(await happened())).toBe(true), early]);
  isOver = true;
}
