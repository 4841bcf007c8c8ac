import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { buildObjects } from '../../scripts/native/build.mjs';
import { compilerFlags, findCompiler, linkerFlags, localRecipe } from '../../scripts/native/local.mjs';
import { withLock } from '../../src/hub/cache/lock.ts';
import { killIfIdle } from '../helpers/idle.ts';

const exec = promisify(execFile);

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** Holds what test builds leave. */
export const buildFolder = join(root, 'kernels/build/test');

let found: ReturnType<typeof findCompiler> | undefined;
/** The one that compiles the addon. */
const compiler = () => {
  found ??= findCompiler();
  return found;
};

const COMMON = ['-std=c++20', '-Wall', '-Wextra', '-pthread', '-fPIC', '-fvisibility=hidden'];
/** What a sanitizer adds to them, for compiler and linker alike. More optimization takes longer to compile than it saves. */
export const SANITIZERS = {
  address: [
    '-O1',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=undefined',
    '-fno-omit-frame-pointer',
    '-g1',
  ],
  thread: ['-O1', '-fsanitize=thread', '-fno-omit-frame-pointer', '-g1'],
} as const;

/**
 * Under sanitizers GCC spends half of its time on registers for the long functions of vector code, unless it takes each as one region.
 * Clang does not know the option.
 */
const SANITIZED_BY_GCC = ['-fira-region=one'];

/** Sources of one native test program or library, and how they are compiled. */
export interface NativeProgram {
  readonly name: string;
  readonly sources: readonly string[];
  /** Of the addon, whose own objects are linked, so that what is tested is what is used; under a sanitizer they are among `sources`. */
  readonly addonSources?: readonly string[];
  /** More of them, which no sanitizer is to look at: they are compiled as without one. */
  readonly unwatched?: readonly string[];
  /** Optimization, include folders and the like, but of the addon's objects; programs that agree on them share those of their sources. */
  readonly options: readonly string[];
  readonly linkOptions?: readonly string[];
  readonly sanitizer?: keyof typeof SANITIZERS;
}

/** Files directly in `folder` whose names end in one of `endings`. */
export function filesIn(folder: string, ...endings: string[]): string[] {
  return readdirSync(folder)
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => join(folder, name))
    .sort();
}

const HEADER = /\.(h|cuh|inc)$/;

/** Changes with any header that a source could include. */
function headersKey(): string {
  const hash = createHash('sha256');
  for (const folder of ['kernels', 'test/kernels']) {
    for (const path of (readdirSync(join(root, folder), { recursive: true }) as string[]).sort()) {
      if (HEADER.test(path) && !path.startsWith('build'))
        hash.update(path).update(readFileSync(join(root, folder, path)));
    }
  }
  return hash.digest('hex');
}

const keyOf = (...parts: (string | Buffer)[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 16);
};

/** Runs the compiler. */
function compilerRun(args: readonly string[]) {
  const [command, ...own] = compiler();
  return exec(command, [...own, ...args], { maxBuffer: Number.POSITIVE_INFINITY });
}

const isGcc = async () => (await compilerRun(['--version'])).stdout.includes('Free Software Foundation');

async function run(args: readonly string[]): Promise<void> {
  await compilerRun(args).catch(({ stderr, message }: { stderr?: string; message: string }) => {
    throw new Error(`${[...compiler(), ...args].join(' ')}\n${stderr || message}`);
  });
}

/** Under another name first, so that nothing half-made ever has its final name. */
async function make(target: string, args: readonly string[]): Promise<void> {
  const partial = `${target}.${randomUUID()}`;
  try {
    await run([...args, '-o', partial]);
    renameSync(partial, target);
  } finally {
    rmSync(partial, { force: true });
  }
}

/** Removes what earlier versions of the same thing left. */
function removeOthers(target: string): void {
  const folder = join(target, '..');
  const stem = basename(target).replace(/-[0-9a-f]{16}(\.\w+)?$/, '-');
  for (const name of readdirSync(folder))
    if (name.startsWith(stem) && name !== basename(target)) rmSync(join(folder, name), { force: true });
}

/** The objects of sources that are compiled with `flags`; one folder for each set of flags. */
function objectsOf(sources: readonly string[], flags: readonly string[]) {
  const folder = join(buildFolder, keyOf(JSON.stringify([compiler(), flags])));
  const headers = headersKey();
  const objects = sources.map((source) => {
    const stem = relative(root, source).replaceAll(/[\\/]/g, '_');
    return { source, object: join(folder, `${stem}-${keyOf(headers, readFileSync(source))}.o`) };
  });
  return { folder, flags, objects };
}

/** Compiles those that are not there. */
async function compile({ flags, objects }: ReturnType<typeof objectsOf>): Promise<void> {
  const stale = objects.filter(({ object }) => !existsSync(object));
  const worker = async () => {
    for (let next = stale.pop(); next; next = stale.pop()) {
      const language = next.source.endsWith('.cu') ? ['-x', 'c++'] : [];
      await make(next.object, [...flags, ...language, '-c', next.source]);
      removeOthers(next.object);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

function locked<T>(folder: string, body: () => Promise<T>): Promise<T> {
  mkdirSync(folder, { recursive: true });
  return withLock(join(folder, 'lock'), undefined, body);
}

/**
 * Builds a native program with the compiler of the addon, or takes what an earlier build of the same sources has left. One build of the
 * same flags runs at a time, so that test files that want the same objects wait for them instead of compiling them twice.
 */
export async function buildNative({
  name,
  sources,
  addonSources = [],
  unwatched = [],
  options,
  linkOptions = [],
  sanitizer,
}: NativeProgram): Promise<string> {
  const instrument = sanitizer ? SANITIZERS[sanitizer] : [];
  const plainFlags = [...COMMON, '-Werror', ...compilerFlags(), ...options];
  // Sanitizers give compilers wrong ideas of what is used before it is set, so warnings are errors only without one.
  const flags = sanitizer
    ? [...COMMON, ...options, ...instrument, ...((await isGcc()) ? SANITIZED_BY_GCC : [])]
    : plainFlags;
  const watched = objectsOf(sanitizer ? [...sources, ...addonSources] : sources, flags);
  const plain = objectsOf(unwatched, plainFlags);
  const addon =
    sanitizer || addonSources.length === 0
      ? []
      : await locked(buildFolder, () => buildObjects(localRecipe(), addonSources));
  // Of inline functions that both have, the linker keeps the first.
  const objects = [...[...watched.objects, ...plain.objects].map(({ object }) => object), ...addon];
  const linking = ['-pthread', ...instrument, ...(sanitizer ? [] : linkerFlags()), ...linkOptions];
  const ending = linkOptions.includes('-shared') ? '.so' : '';
  // The addon's objects keep their names when they change.
  const key = keyOf(JSON.stringify([objects, linking]), ...addon.map((object) => readFileSync(object)));
  const program = join(watched.folder, `${name}-${key}${ending}`);
  if (existsSync(program)) return program;
  if (unwatched.length > 0) await locked(plain.folder, () => compile(plain));
  await locked(watched.folder, async () => {
    await compile(watched);
    if (existsSync(program)) return;
    await make(program, [...linking, ...objects]);
    removeOthers(program);
  });
  return program;
}

/**
 * Runs a native test program as this machine would, or under what SWITCHYARD_TEST_RUNNER names: with CXX=aarch64-linux-gnu-g++,
 * SWITCHYARD_TEST_RUNNER=qemu-aarch64 and QEMU_LD_PREFIX=/usr/aarch64-linux-gnu, Arm code is tested on any machine.
 *
 * @throws Error with what it wrote, unless it ends with 0
 */
export async function runNative(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ stdout: string; stderr: string }> {
  const runner = process.env.SWITCHYARD_TEST_RUNNER;
  const [file, leading] = runner ? [runner, [program]] : [program, []];
  const options = { env: { ...process.env, ...env }, maxBuffer: Number.POSITIVE_INFINITY };
  const running = exec(file, [...leading, ...args], options);
  const killed = killIfIdle(running.child);
  try {
    return await running;
  } catch (error) {
    const why = (await killed) ? ', because none of its threads did anything any more' : '';
    const { code, signal, stdout, stderr } = error as Record<
      'code' | 'signal' | 'stdout' | 'stderr',
      unknown
    >;
    throw new Error(
      `${basename(program)} ${args.join(' ')}: ended with ${signal ?? code}${why}\n${stdout}${stderr}`,
    );
  }
}
