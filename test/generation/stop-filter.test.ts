import { expect, it } from 'vitest';
import { Random } from '../../src/generation/random.ts';
import { StopFilter } from '../../src/generation/stop-filter.ts';

/** A text of few letters, so that much of it looks like a stop string. */
function textOf(random: Random, length: number): string {
  return Array.from({ length }, () => 'ab-'[random.uint32() % 3]).join('');
}

it('lets through, however the text is cut, all that comes before the stop string which ends it', () => {
  const random = new Random(11);
  let stopped = 0;
  for (let round = 0; round < 3000; round++) {
    const stops = Array.from({ length: 1 + (random.uint32() % 3) }, () =>
      textOf(random, 1 + (random.uint32() % 4)),
    );
    const text = textOf(random, 12);
    const filter = new StopFilter(stops);
    let sofar = '';
    let shown = '';
    let isStopped = false;
    while (sofar.length < text.length && !isStopped) {
      const piece = text.slice(sofar.length, sofar.length + 1 + (random.uint32() % 3));
      sofar += piece;
      shown += filter.push(piece);
      expect(text.startsWith(shown)).toBe(true);
      isStopped = stops.some((stop) => sofar.includes(stop));
      // Nothing that a stop string could still begin with has been shown.
      for (const stop of stops)
        for (let length = 1; length <= stop.length; length++)
          if (sofar.endsWith(stop.slice(0, length)))
            expect(shown.length).toBeLessThanOrEqual(sofar.length - length);
    }
    shown += filter.flush();
    const first = Math.min(
      ...stops.map((stop) => sofar.indexOf(stop)).map((at) => (at === -1 ? sofar.length : at)),
    );
    expect(shown).toBe(sofar.slice(0, first));
    if (isStopped) stopped++;
  }
  expect(stopped).toBeGreaterThan(1000);
});

it('releases at once what turns out to be none', () => {
  const filter = new StopFilter(['</end>']);
  expect([
    filter.push('x</'),
    filter.push('e'),
    filter.push('m'),
    filter.push('</end'),
    filter.flush('!'),
  ]).toEqual(['x', '', '</em', '', '</end!']);
});

it('without stop strings holds nothing back', () => {
  const filter = new StopFilter([]);
  expect([filter.push('a'), filter.push(''), filter.flush()]).toEqual(['a', '', '']);
});
