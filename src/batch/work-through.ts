/** Results that wait for an earlier one, for each task that runs. */
const AHEAD = 4;

/**
 * Works through items, so many at once, and gives what comes of them, in their order or as it comes. No more are read than that takes: where
 * results keep their order, a slow one has the others wait.
 * @throws what a task throws; the others end as they may
 */
export async function* workThrough<T, R>(
  items: AsyncIterable<T>,
  task: (item: T) => Promise<R>,
  { atOnce, inOrder }: { atOnce: number; inOrder: boolean },
): AsyncGenerator<R, void, undefined> {
  const running = new Map<number, Promise<void>>();
  const done = new Map<number, R>();
  let begun = 0;
  let next = 0;
  const begin = (item: T) => {
    const index = begun++;
    const work = task(item).then((result) => {
      running.delete(index);
      done.set(index, result);
    });
    work.catch(() => {});
    running.set(index, work);
  };
  function* ready() {
    for (const [index, result] of done) {
      if (inOrder) break;
      done.delete(index);
      yield result;
    }
    for (; done.has(next); next++) {
      const result = done.get(next) as R;
      done.delete(next);
      yield result;
    }
  }
  for await (const item of items) {
    begin(item);
    while (running.size >= atOnce || done.size >= AHEAD * atOnce) {
      await Promise.race(running.values());
      yield* ready();
    }
  }
  while (running.size > 0) {
    await Promise.race(running.values());
    yield* ready();
  }
  yield* ready();
}
