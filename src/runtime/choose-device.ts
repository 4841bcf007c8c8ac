/** Where a model computes. */

import { EngineError, expected, InputError, show } from '../errors.ts';
import { cudaNeedsProvider, Device as Gpu } from './device.ts';
import { type LibraryFile, libraryFile } from './engine-status.ts';
import { examineCuda } from './requirements/cuda.ts';
import { type Machine, thisMachine } from './requirements/machine.ts';

/** `cuda` is the first GPU, `cuda:N` the N-th from 0; `auto` is `cuda` where all it needs is there, else `cpu`. */
export type Device = 'cpu' | 'auto' | 'cuda' | `cuda:${number}`;

/** The devices in words, for messages. */
export const DEVICES = 'cpu, auto, cuda, cuda:N (the N-th GPU, from 0)';

export function isDevice(text: unknown): text is Device {
  return typeof text === 'string' && /^(cpu|auto|cuda(:\d{1,4})?)$/.test(text);
}

/** How many GPUs machines have that lacked nothing. Programs are asked for that, which takes part of a second, and it does not change. */
const ready = new WeakMap<Machine, number>();

/**
 * Checks that a model can compute on a device. A machine that lacks nothing is looked at once.
 *
 * @param machine with `engine` for tests: another machine than this one
 * @throws InputError for what is no device; EngineError for CUDA, saying what this machine lacks for it
 */
export async function checkDevice(
  device: unknown,
  machine: Machine = thisMachine,
  engine: LibraryFile = libraryFile(),
): Promise<void> {
  if (device === undefined) return;
  if (!isDevice(device)) throw new InputError(expected('device', device, `one of ${DEVICES}`));
  if (!device.startsWith('cuda') || (machine === thisMachine && !cudaNeedsProvider())) return;
  const index = gpuIndex(device);
  if (index < (ready.get(machine) ?? 0)) return;
  const { lacks, gpus, searched } = await examineCuda(machine, engine);
  if (lacks.length === 0) ready.set(machine, gpus.length);
  const findings = lacks.map(({ what, step }) => `- ${what}\n  → ${step}`);
  if (gpus.length > 0 && index >= gpus.length)
    findings.push(`- GPU ${index}: nvidia-smi lists ${gpus.length}\n  → count from 0`);
  if (findings.length === 0) return;
  const places = searched.length > 0 ? `\nLibraries were looked for in ${searched.join(', ')}.` : '';
  throw new EngineError(
    `device is ${show(device)}, but this machine lacks something for it (use cpu, or auto, which means cpu then):\n` +
      `${findings.join('\n')}${places}`,
  );
}

/**
 * Opens the device a model is to compute on; undefined for the CPU.
 * @param device checked with {@link checkDevice}
 * @throws EngineError saying what is missing for CUDA
 */
export async function openDevice(device: Device | undefined): Promise<Gpu | undefined> {
  if (device === undefined || device === 'cpu') return undefined;
  if (device !== 'auto') return Gpu.open(gpuIndex(device));
  try {
    await checkDevice('cuda');
    return await Gpu.open(0);
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

function gpuIndex(device: Device): number {
  return Number(device.slice('cuda:'.length));
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/**
 * Bytes of an option such as `maxMemory`: a number, or text such as `20GB`, `1.5 GiB`.
 * @throws InputError for anything else
 */
export function parseMemory(value: unknown, option = 'maxMemory'): number {
  const [, digits, unit] = String(value).match(/^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i) ?? [];
  const bytes = Number(digits) * (UNITS[(unit ?? '').toUpperCase()] ?? Number.NaN);
  if (['number', 'string'].includes(typeof value) && bytes >= 1) return Math.floor(bytes);
  throw new InputError(expected(option, value, 'a number of bytes, or text such as 20GB or 1.5GiB'));
}
