/** Where a model computes. */
import { examineCuda } from '../doctor/cuda.ts';
import { type Machine, thisMachine } from '../doctor/machine.ts';
import { EngineError, InputError, show } from '../errors.ts';
import { type LibraryFile, libraryFile } from '../runtime/engine-status.ts';

/** `auto` is the CPU in this version; `cuda` and `cuda:N`, the N-th GPU from 0, are refused with what is missing. */
export type Device = 'cpu' | 'auto' | 'cuda' | `cuda:${number}`;

/** The devices in words, for messages. */
export const DEVICES = 'cpu, auto, cuda, cuda:N (the N-th GPU, from 0)';

export function isDevice(text: unknown): text is Device {
  return typeof text === 'string' && /^(cpu|auto|cuda(:\d{1,4})?)$/.test(text);
}

/**
 * Checks that a model can compute on a device.
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
  if (!isDevice(device)) throw new InputError(`device is ${show(device)}; expected one of ${DEVICES}`);
  if (!device.startsWith('cuda')) return;
  const { lacks, gpus, searched } = await examineCuda(machine, engine);
  const index = Number(device.slice('cuda:'.length));
  const findings = lacks.map(({ what, step }) => `- ${what}\n  → ${step}`);
  if (gpus.length > 0 && index >= gpus.length)
    findings.push(`- GPU ${index}: nvidia-smi lists ${gpus.length}\n  → count from 0`);
  const places = searched.length > 0 ? `\nLibraries were looked for in ${searched.join(', ')}.` : '';
  const state =
    findings.length > 0
      ? `For CUDA this machine also lacks:\n${findings.join('\n')}${places}`
      : `This machine has what CUDA needs (${gpus.map(({ name }) => name).join(', ')}).`;
  throw new EngineError(
    `device is ${show(device)}, but this version of Switchyard has no CUDA path yet: it computes on the CPU only. ` +
      `Use cpu, or auto, which means the same. ${state}`,
  );
}
