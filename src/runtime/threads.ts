/** How many threads a session uses by default. */
import { availableParallelism } from 'node:os';
import { EngineError, expected, InputError } from '../errors.ts';
import { loadBinding } from './binding.ts';
import { groupFolders, type ReadText, readText } from './control-groups.ts';

const MOST_THREADS = 1024;

/** @throws InputError for a number of threads that no machine has */
export function checkThreads(threads: number): number {
  if (Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS) return threads;
  throw new InputError(expected('threads', threads, `an integer from 1 to ${MOST_THREADS}`));
}

/** Windows tells the cores by a function; elsewhere Node tells the CPUs. */
function reportedCores(): number {
  if (process.platform !== 'win32') return availableParallelism();
  try {
    return loadBinding().cpuInfo().cores || availableParallelism();
  } catch (error) {
    if (error instanceof EngineError) return availableParallelism();
    throw error;
  }
}

/** What bounds the threads of a session. */
export interface ThreadBudget {
  /** Threads a session uses by default. */
  readonly threads: number;
  /** CPUs of the affinity mask; undefined where it cannot be read. */
  readonly cpus: number | undefined;
  /** Physical cores among them, or what the system reports. */
  readonly cores: number;
  /** CPUs' worth of time of the cgroup's quota, rounded up; undefined without one. */
  readonly quota: number | undefined;
}

/**
 * Physical cores this process may use: the CPUs of its affinity mask with hyper-threads counted once (they share the
 * units matrix products keep busy), at most its cgroup's CPU quota, rounded up. Where none of that can be read, what the system reports.
 *
 * @param read for tests: stands in for the files of /proc and /sys
 * @param fallback threads where nothing can be read
 */
export function defaultThreads(read: ReadText = readText, fallback: number = reportedCores()): number {
  return threadBudget(read, fallback).threads;
}

/** {@link defaultThreads} with its reasons. */
export function threadBudget(read: ReadText = readText, fallback: number = reportedCores()): ThreadBudget {
  const allowed = allowedCpus(read);
  const cores = allowed === undefined ? fallback : countCores(allowed, read);
  const quota = cgroupQuota(read);
  return {
    threads: Math.max(1, Math.min(cores, quota)),
    cpus: allowed?.length,
    cores,
    quota: Number.isFinite(quota) ? quota : undefined,
  };
}

function allowedCpus(read: ReadText): number[] | undefined {
  const list = read('/proc/self/status')?.match(/^Cpus_allowed_list:\s*(\S+)/m)?.[1];
  return list === undefined ? undefined : parseCpuList(list);
}

/** `0-3,8` → [0, 1, 2, 3, 8] */
function parseCpuList(list: string): number[] {
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** CPUs that name the same set of siblings are one core. */
function countCores(cpus: readonly number[], read: ReadText): number {
  const folder = (cpu: number) => `/sys/devices/system/cpu/cpu${cpu}/topology`;
  return new Set(cpus.map((cpu) => read(`${folder(cpu)}/thread_siblings_list`)?.trim() ?? `cpu ${cpu}`)).size;
}

/** CPUs' worth of time a period; Infinity without a limit. */
function cgroupQuota(read: ReadText): number {
  const { unified, legacy } = groupFolders(read, 'cpu');
  const limits = [
    ...unified.map((folder) => quotaV2(read(`${folder}/cpu.max`))),
    ...legacy.map((folder) =>
      quotaV1(read(`${folder}/cpu.cfs_quota_us`), read(`${folder}/cpu.cfs_period_us`)),
    ),
  ];
  return Math.ceil(Math.min(...limits));
}

function quotaV2(text: string | undefined): number {
  const [quota, period] = (text ?? 'max').trim().split(/\s+/);
  return ratio(quota, period);
}

function quotaV1(quota: string | undefined, period: string | undefined): number {
  return ratio(quota?.trim(), period?.trim());
}

/** Infinity for `max`, -1 and whatever is not a number. */
function ratio(quota: string | undefined, period: string | undefined): number {
  const value = Number(quota) / Number(period);
  return value > 0 ? value : Number.POSITIVE_INFINITY;
}
