import { afterEach, expect, test, vi } from 'vitest';
import { createProgressDisplay } from '../../src/cli/progress.ts';
import { formatBytes, formatDuration } from '../../src/units.ts';

function displayed(stream: { isTTY?: boolean; columns?: number }, env = {}) {
  let text = '';
  let now = 0;
  const write = (part: string) => {
    text += part;
  };
  const display = createProgressDisplay({ ...stream, write }, env, () => now);
  const files = new Map<string, { loaded: number; size: number }>();
  const sum = (field: 'loaded' | 'size') => [...files.values()].reduce((all, file) => all + file[field], 0);
  const event = (
    file: string,
    loadedBytes: number,
    fileBytes: number,
    stage: 'download' | 'load' | 'quantize' = 'download',
  ) => {
    files.set(file, { loaded: loadedBytes, size: fileBytes });
    const totals = { totalLoadedBytes: sum('loaded'), totalBytes: sum('size') };
    display.onProgress({ stage, file, loadedBytes, fileBytes, ...totals });
  };
  return {
    event,
    write: (text: string) => display.write(text),
    finish: () => display.finish(),
    wait: (ms: number) => {
      now += ms;
    },
    take: () => {
      const taken = text;
      text = '';
      return taken;
    },
  };
}

afterEach(() => vi.useRealTimers());

test('a terminal gets bars with bytes, speed and time left, redrawn in place', () => {
  const { event, wait, take, finish } = displayed({ isTTY: true, columns: 120 });
  event('a.safetensors', 0, 1e9);
  wait(1000);
  event('a.safetensors', 1e8, 1e9);
  wait(1000);
  take();
  event('b.safetensors', 0, 2e9);
  expect(take()).toBe(
    '\x1b[1A\r\x1b[Ja.safetensors [##......................] 100 MB of 1.0 GB, 100 MB/s, 9 s left\n' +
      'b.safetensors [........................] 0 B of 2.0 GB\n' +
      'all files [........................] 100 MB of 3.0 GB, 50.0 MB/s, 58 s left\n',
  );
  event('a.safetensors', 1e9, 1e9);
  expect(take()).toBe(
    '\x1b[3A\r\x1b[Jb.safetensors [........................] 0 B of 2.0 GB\n' +
      'all files [########................] 1.0 GB of 3.0 GB, 500 MB/s, 4 s left\n',
  );
  wait(10_000);
  event('b.safetensors', 2e9, 2e9);
  take();
  finish();
  expect(take()).toBe('2 files, 3.0 GB in 12 s\n');
  finish();
  expect(take()).toBe('');
});

test('files that are done do not scroll by: the sum of all tells how far it is', () => {
  const { event, wait, take } = displayed({ isTTY: true, columns: 120 });
  event('000', 0, 1e9);
  event('001', 0, 1e9);
  for (let i = 0; i < 100; i++) {
    wait(1000);
    event(String(i).padStart(3, '0'), 1e9, 1e9);
    event(String(i + 2).padStart(3, '0'), 0, 1e9);
  }
  const drawn = take().split('\r\x1b[J').at(-1) as string;
  expect(drawn.split('\n')).toHaveLength(3);
  expect(drawn).toMatch(/^all files \[#+\.\] 100 GB of 101 GB, 1\.0 GB\/s, 1 s left$/m);
});

test('a warning stands above the bars, and stays', () => {
  const { event, wait, write, take, finish } = displayed({ isTTY: true, columns: 120 });
  write('warning: first\n');
  event('a', 1e8, 1e9);
  wait(1000);
  event('b', 0, 1e9);
  take();
  write('warning: the hub went silent\n');
  const bars = 'a [##......................] 100 MB of 1.0 GB\nb [........................] 0 B of 1.0 GB\n';
  const [erasing, ...drawn] = take()
    .split('\r\x1b[J')
    .flatMap((part) => part.split('\n'));
  expect(erasing).toBe('\x1b[3A');
  expect(drawn.map((line) => line.split('[')[0])).toEqual([
    'warning: the hub went silent',
    'a ',
    'b ',
    'all files ',
    '',
  ]);
  finish();
  expect(take()).toContain(bars);
  write('later\n');
  expect(take()).toBe('later\n');
});

test('where nothing comes for a while, the last that came is shown, and then no speed', () => {
  vi.useFakeTimers();
  const { event, wait, take, finish } = displayed({ isTTY: true, columns: 120 });
  const pass = (ms: number) => {
    wait(ms);
    vi.advanceTimersByTime(ms);
    return take();
  };
  event('a', 0, 1e9);
  pass(950);
  event('a', 1e8, 1e9);
  take();
  wait(50);
  event('a', 2e8, 1e9);
  expect(take()).toBe('');
  expect(pass(100)).toContain('200 MB of 1.0 GB, 200 MB/s, 4 s left');
  expect(pass(1000)).toContain('200 MB/s');
  expect(pass(6000)).toMatch(/200 MB of 1\.0 GB\n$/);
  finish();
  take();
  expect(pass(10_000)).toBe('');
});

test('a load that lasts no time shows nothing', () => {
  for (const isTTY of [true, false]) {
    const { event, take, finish } = displayed({ isTTY });
    event('model.safetensors', 5e9, 5e9, 'load');
    finish();
    expect(take()).toBe('');
  }
});

test('bytes of an earlier run are no speed', () => {
  const { event, wait, take } = displayed({ isTTY: true, columns: 120 });
  event('a', 9e8, 1e9);
  wait(1000);
  take();
  event('a', 9.1e8, 1e9);
  expect(take()).toContain('10.0 MB/s, 9 s left');
});

test('a narrow terminal gets no line that wraps', () => {
  const { event, take } = displayed({ isTTY: true, columns: 40 });
  event('model-00001-of-00099-with-a-long-name.safetensors', 1, 1e9);
  for (const line of take().replace('\r\x1b[J', '').split('\n')) expect(line.length).toBeLessThan(40);
});

test('a pipe gets a plain line per file, and one now and then', () => {
  const { event, wait, take, finish } = displayed({});
  event('a.safetensors', 0, 1e9);
  wait(1000);
  event('a.safetensors', 1e8, 1e9);
  expect(take()).toBe('');
  wait(9500);
  event('a.safetensors', 5e8, 1e9);
  expect(take()).toMatch(/^a\.safetensors: 500 MB of 1\.0 GB, .*\/s, .* left\n$/);
  event('b.safetensors', 0, 1e9);
  wait(10_000);
  event('b.safetensors', 1e8, 1e9);
  expect(take()).toMatch(/^all files: 600 MB of 2\.0 GB, .*\/s, .* left\n$/);
  event('a.safetensors', 1e9, 1e9);
  expect(take()).toBe('a.safetensors: 1.0 GB, done\n');
  event('b.safetensors', 1e9, 1e9);
  take();
  finish();
  expect(take()).toBe('2 files, 2.0 GB in 21 s\n');
});

test('the sum is of what was fetched, whatever else the load took', () => {
  const { event, wait, take, finish } = displayed({});
  for (const file of ['a', 'b']) event(file, 1e6, 1e6);
  wait(2000);
  event('rounded', 0, 3e6, 'quantize');
  event('rounded', 3e6, 3e6, 'quantize');
  take();
  finish();
  expect(take()).toBe('2 files, 2.0 MB in 2 s\n');
});

test('nothing at all under HF_HUB_DISABLE_PROGRESS_BARS', () => {
  const { event, take, finish } = displayed({ isTTY: true }, { HF_HUB_DISABLE_PROGRESS_BARS: '1' });
  event('a', 1, 1);
  finish();
  expect(take()).toBe('');
});

test('sizes and times are written for people', () => {
  expect([0, 999, 1000, 99_949, 100_000, 999_500, 4.25e9].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.0 kB',
    '99.9 kB',
    '100 kB',
    '1.0 MB',
    '4.3 GB',
  ]);
  expect([0.4, 59, 65, 3725].map(formatDuration)).toEqual(['0 s', '59 s', '1 min 05 s', '1 h 02 min']);
});
