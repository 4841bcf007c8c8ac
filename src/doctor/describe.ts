/** A diagnosis in words. */
import type { DeviceInfo } from '../runtime/device.ts';
import type { CudaReport, Gpu } from '../runtime/requirements/cuda.ts';
import type { Library } from '../runtime/requirements/libraries.ts';
import type { ThreadBudget } from '../runtime/threads.ts';
import { type Diagnosis, hasCuda, hasPartsOfCuda, isCompiledHere, type Step, type Tool } from './diagnose.ts';

type Row = readonly [label: string, text: string];

const ADDON_ORIGINS = { compiled: ', compiled here', prebuilt: ', prebuilt', missing: ': missing' };

/**
 * The report `switchyard doctor` prints.
 * @param showsCuda whether it lists what CUDA needs; by default where some of that is here
 */
export function describeDiagnosis(diagnosis: Diagnosis, showsCuda = hasPartsOfCuda(diagnosis)): string {
  const { ok } = diagnosis;
  const steps = diagnosis.steps.filter(({ neededFor }) => showsCuda || neededFor !== 'CUDA');
  const verdict = ok ? `models run here, ${summary(diagnosis)}` : 'models cannot run here';
  const blocks = [
    table(machineRows(diagnosis, showsCuda)),
    cudaBlock(diagnosis, showsCuda),
    `${verdict}\n`,
    ...(steps.length > 0 ? [`missing, and what to do\n${steps.map(item).join('')}`] : []),
  ];
  return blocks.join('\n');
}

/** Where there is no CUDA, neither is there anything to list. */
function cudaBlock(diagnosis: Diagnosis, isListed: boolean): string {
  const { cuda, node } = diagnosis;
  if (!hasCuda(node.platform)) return 'device cuda is for Linux; models run on the CPU here\n';
  if (!isListed)
    return 'no GPU of NVIDIA and nothing for it is here; `switchyard doctor --cuda` lists what device cuda needs\n';
  return `what device cuda needs, for CUDA ${cuda.major}\n${table(cudaRows(diagnosis))}`;
}

function summary({ engine, threads, gpus, device }: Diagnosis): string {
  const cpu = `on the CPU with the ${engine.working?.cpu.isa} kernels and ${count(threads.threads, 'thread')}`;
  return device === 'cuda' ? `${cpu}, and with device cuda on the ${gpus.devices[0]?.name}` : cpu;
}

function machineRows(
  { node, engine, threads, providers, compiler, nvcc }: Diagnosis,
  showsCuda: boolean,
): Row[] {
  const { addon, library, libc, working } = engine;
  const named = library.fromEnvironment ? ' (named by SWITCHYARD_ONNXRUNTIME)' : '';
  return [
    ['Node.js', `${node.version}, ${node.platform} ${node.arch}`],
    ...(libc ? [['C library', [libc.name, libc.version].filter(Boolean).join(' ')] as const] : []),
    ['engine', working ? `ONNX Runtime ${working.version}` : 'does not work'],
    ['', `${library.path ?? 'no file for this platform'}${library.found ? '' : ': missing'}${named}`],
    ['addon', `${addon.path}${ADDON_ORIGINS[addon.origin]}`],
    ['CPU can use', working?.cpu.features.join(', ') ?? 'unknown without the engine'],
    ['kernels', working?.cpu.isa ?? 'none'],
    ...(working ? [['formats', formatsText(working.cpu.isa)] as const] : []),
    ['threads', `${threads.threads}: ${threadReason(threads)}`],
    ['providers', providers.join(', ') || 'none'],
    ...(isCompiledHere(node.platform) ? [['compiler', toolText(compiler)] as const] : []),
    ...(showsCuda && hasCuda(node.platform) ? [['nvcc', toolText(nvcc)] as const] : []),
  ];
}

/** What multiplies codes with activations that are rounded to int8, by the name of the kernels. */
const INTEGER_PRODUCTS: Readonly<Record<string, string>> = {
  amx: 'VNNI',
  avx512_vbmi: 'VNNI',
  avx512_bf16: 'VNNI',
  avx512_vnni: 'VNNI',
  avx512: 'AVX-512 without VNNI',
  avx2: 'AVX2',
  neon_i8mm: 'I8MM',
  neon_dotprod: 'dot products',
  neon: 'NEON without dot products',
  portable: 'plain C++',
};

function formatsText(isa: string): string {
  const products = INTEGER_PRODUCTS[isa] ?? isa;
  return `quantized weights are read in place; what meets int4, int8, GPTQ and MXFP4 is rounded to int8, but in float32, and multiplied by ${products}`;
}

function threadReason({ cpus, cores, quota }: ThreadBudget): string {
  const allowed =
    cpus === undefined
      ? `${count(cores, 'core')} as the system reports`
      : `${count(cores, 'physical core')} among the ${count(cpus, 'CPU')} this process may use`;
  return quota === undefined ? allowed : `${allowed}, and a quota of ${count(quota, 'CPU')}`;
}

function toolText(tool: Tool | undefined): string {
  return tool ? `${tool.command}: ${tool.version}` : 'none found';
}

function cudaRows({ cuda, gpus: { devices, fault } }: Diagnosis): Row[] {
  const { kernels, provider, libraries, driver, driverVersion, gpus, searched }: CudaReport = cuda;
  const usable = devices.map(usableText);
  const version = driverVersion === undefined ? '' : `, version ${driverVersion}`;
  return [
    ['kernels', kernels.path ?? `${kernels.name}: not built`],
    ...labelled('provider', provider.map(libraryText)),
    ...labelled('libraries', libraries.map(libraryText)),
    ['driver', `${libraryText(driver)}${version}`],
    ...labelled('GPUs', gpus.length > 0 ? gpus.map(gpuText) : ['none']),
    ...labelled('usable', usable.length > 0 ? usable : [fault ?? 'none']),
    ...labelled('looked in', searched),
  ];
}

function labelled(label: string, lines: readonly string[]): Row[] {
  return lines.map((line, i) => [i === 0 ? label : '', line]);
}

function libraryText({ name, path, unsearched }: Library): string {
  if (path !== undefined) return path;
  return unsearched === undefined ? `${name}: missing` : `${unsearched}: the loader does not look there`;
}

function gpuText({ name, memoryMiB }: Gpu): string {
  return memoryMiB === undefined ? name : `${name}, ${(memoryMiB / 1024).toFixed(1)} GiB`;
}

function usableText({ name, major, minor, freeBytes, totalBytes }: DeviceInfo): string {
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return `${name}, compute capability ${major}.${minor}, ${gib(freeBytes)} of ${gib(totalBytes)} GiB free`;
}

function item({ neededFor, what, step }: Step, index: number): string {
  return `${index + 1}. for ${neededFor}: ${what}\n   → ${step}\n`;
}

function table(rows: readonly Row[]): string {
  return rows.map(([label, text]) => `  ${label.padEnd(14)}${text}\n`).join('');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
