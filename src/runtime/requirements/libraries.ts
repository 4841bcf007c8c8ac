/** Where the dynamic loader finds a shared library on Linux (ld.so(8)). */
import { join } from 'node:path';
import type { Machine } from './machine.ts';

export interface Library {
  readonly name: string;
  /** Where the loader finds it; undefined where it does not. */
  readonly path: string | undefined;
  /** Where it lies all the same, in a folder that the loader does not search. */
  readonly unsearched: string | undefined;
}

export interface LibrarySearch {
  find(name: string): Library;
  /** Where it looks, in order. */
  readonly places: readonly string[];
}

/** Names by which `ldconfig -p` tells the libraries of a Node.js architecture. */
const CACHE_LABELS: Readonly<Record<string, string>> = { x64: 'x86-64', arm64: 'AArch64' };
const TRIPLETS: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** @param runPath folders that the library which needs others names itself */
export async function searchLibraries(
  machine: Machine,
  runPath: readonly string[] = [],
): Promise<LibrarySearch> {
  const fromEnvironment = (machine.env.LD_LIBRARY_PATH ?? '').split(/[:;]/).filter((folder) => folder !== '');
  const cache = await readCache(machine);
  const before = [...fromEnvironment, ...runPath];
  const after = builtInFolders(machine.arch);
  const unsearched = usualFolders(machine);
  const firstIn = (folders: readonly string[], name: string) =>
    folders.map((folder) => join(folder, name)).find((path) => machine.exists(path));
  const cached = (name: string) => {
    const path = cache?.get(name);
    return path !== undefined && machine.exists(path) ? path : undefined;
  };
  return {
    find(name) {
      const path = firstIn(before, name) ?? cached(name) ?? firstIn(after, name);
      return { name, path, unsearched: path === undefined ? firstIn(unsearched, name) : undefined };
    },
    places: [
      ...(fromEnvironment.length > 0 ? fromEnvironment : ['LD_LIBRARY_PATH (not set)']),
      ...runPath,
      cache ? 'the cache of ldconfig' : 'the cache of ldconfig (cannot be read)',
      ...after,
    ],
  };
}

/** Name → path of the libraries in the loader's cache. */
async function readCache(machine: Machine): Promise<Map<string, string> | undefined> {
  // /sbin is not on every user's PATH.
  for (const program of ['ldconfig', '/sbin/ldconfig', '/usr/sbin/ldconfig']) {
    const answer = await machine.ask(program, ['-p']);
    if (answer?.ok) return parseCache(answer.text, CACHE_LABELS[machine.arch] ?? '');
  }
  return undefined;
}

/** Lines such as `libcudart.so.12 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcudart.so.12`; the first counts. */
function parseCache(text: string, label: string): Map<string, string> {
  const cache = new Map<string, string>();
  for (const [, name, kind, path] of text.matchAll(/^\s*(\S+) \(([^)]*)\) => (.+)$/gm)) {
    if (name === undefined || path === undefined || cache.has(name)) continue;
    if (kind?.split(/,\s*/).includes(label)) cache.set(name, path);
  }
  return cache;
}

function builtInFolders(arch: string): string[] {
  const triplet = TRIPLETS[arch];
  return [
    ...(triplet ? [`/lib/${triplet}`, `/usr/lib/${triplet}`] : []),
    '/lib64',
    '/usr/lib64',
    '/lib',
    '/usr/lib',
  ];
}

/** Where installers put CUDA without telling the loader; the driver's libraries under WSL included. */
function usualFolders(machine: Machine): string[] {
  const { CUDA_HOME, CUDA_PATH } = machine.env;
  const installed = machine.list('/usr/local').filter((name) => /^cuda(-[\d.]+)?$/.test(name));
  const homes = [CUDA_HOME, CUDA_PATH, ...installed.map((name) => `/usr/local/${name}`), '/opt/cuda'];
  const named = homes.filter((home) => home !== undefined && home !== '') as string[];
  return [...named.flatMap((home) => [join(home, 'lib64'), join(home, 'lib')]), '/usr/lib/wsl/lib'];
}
