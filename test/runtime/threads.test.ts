import { describe, expect, it } from 'vitest';
import { defaultThreads } from '../../src/runtime/threads.ts';

/** A machine whose CPUs 2n and 2n+1 are the two threads of one core. */
function machine(allowed: string, files: Record<string, string> = {}) {
  return (path: string): string | undefined => {
    if (path === '/proc/self/status')
      return `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${allowed}\n`;
    const cpu = path.match(/^\/sys\/devices\/system\/cpu\/cpu(\d+)\/topology\/thread_siblings_list$/)?.[1];
    if (cpu !== undefined) return `${Number(cpu) & ~1}-${Number(cpu) | 1}\n`;
    return files[path];
  };
}

describe('defaultThreads', () => {
  it('counts a core with two hyper-threads once', () => {
    expect(defaultThreads(machine('0-7'))).toBe(4);
  });

  it('counts only CPUs of the affinity mask', () => {
    expect(defaultThreads(machine('0,2-3,9'))).toBe(3);
    expect(defaultThreads(machine('5'))).toBe(1);
  });

  it('stays within a cgroup v2 quota, its parents included, rounded up', () => {
    const files = {
      '/proc/self/cgroup': '0::/user/job\n',
      '/sys/fs/cgroup/user/job/cpu.max': 'max 100000\n',
    };
    expect(defaultThreads(machine('0-15', files))).toBe(8);
    expect(
      defaultThreads(machine('0-15', { ...files, '/sys/fs/cgroup/user/cpu.max': '250000 100000' })),
    ).toBe(3);
    expect(defaultThreads(machine('0-15', { '/sys/fs/cgroup/cpu.max': '50000 100000' }))).toBe(1);
  });

  it('stays within a cgroup v1 quota', () => {
    const files = {
      '/proc/self/cgroup': '4:cpu,cpuacct:/job\n2:cpuset:/other\n',
      '/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us': '200000\n',
      '/sys/fs/cgroup/cpu/job/cpu.cfs_period_us': '100000\n',
    };
    expect(defaultThreads(machine('0-15', files))).toBe(2);
    expect(
      defaultThreads(machine('0-15', { ...files, '/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us': '-1\n' })),
    ).toBe(8);
  });

  it('takes every CPU for a core where the topology is hidden', () => {
    const read = (path: string) => (path === '/proc/self/status' ? 'Cpus_allowed_list:\t0-2\n' : undefined);
    expect(defaultThreads(read)).toBe(3);
  });

  it('falls back to what the runtime reports where nothing can be read', () => {
    expect(defaultThreads(() => undefined, 6)).toBe(6);
  });

  it('gives at least one thread on this machine', () => {
    expect(defaultThreads()).toBeGreaterThanOrEqual(1);
  });
});
