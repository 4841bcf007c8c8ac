import { expect, test } from 'vitest';
import { memoryHere } from '../../src/runtime/memory-here.ts';

const GB = 1e9;
const machine = { total: 64 * GB, available: 50 * GB };
const files = (given: Record<string, string>) => (path: string) => given[path];

test('without control groups it is the memory of the machine', () => {
  expect(memoryHere(files({}), machine)).toEqual({ total: 64 * GB, available: 50 * GB });
});

test('version 2: the tightest limit of a group and those above it counts, also one that slows down only', () => {
  const read = files({
    '/proc/self/cgroup': '0::/user.slice/app.service\n',
    '/sys/fs/cgroup/user.slice/app.service/memory.max': 'max\n',
    '/sys/fs/cgroup/user.slice/memory.max': `${32 * GB}\n`,
    '/sys/fs/cgroup/user.slice/memory.high': `${24 * GB}\n`,
  });
  expect(memoryHere(read, machine)).toEqual({ total: 24 * GB, available: 24 * GB, limit: 24 * GB });
});

test('version 2 in a container, whose own group is the root of what it sees', () => {
  const read = files({ '/proc/self/cgroup': '0::/docker/abc\n', '/sys/fs/cgroup/memory.max': `${8 * GB}` });
  expect(memoryHere(read, machine)).toMatchObject({ total: 8 * GB, limit: 8 * GB });
});

test('version 1, where no limit is a number beyond any memory', () => {
  const group = '5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n';
  const limited = { '/proc/self/cgroup': group, '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${16 * GB}` };
  expect(memoryHere(files(limited), machine)).toMatchObject({ total: 16 * GB, available: 16 * GB });
  const free = {
    '/proc/self/cgroup': group,
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
  };
  expect(memoryHere(files(free), machine)).toEqual({ total: 64 * GB, available: 50 * GB });
});

test('others on the machine count, even where a group would allow more', () => {
  const read = files({ '/proc/self/cgroup': '0::/a', '/sys/fs/cgroup/a/memory.max': `${60 * GB}` });
  expect(memoryHere(read, machine)).toEqual({ total: 60 * GB, available: 50 * GB, limit: 60 * GB });
});

test('this machine has memory', () => {
  const { total, available } = memoryHere();
  expect(available).toBeGreaterThan(0);
  expect(total).toBeGreaterThanOrEqual(available);
});
