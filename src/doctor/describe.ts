/** A diagnosis in words. */
import type { ThreadBudget } from '../runtime/threads.ts';
import type { CudaReport, Gpu } from './cuda.ts';
import type { Diagnosis, Step, Tool } from './diagnose.ts';
import type { Library } from './libraries.ts';

type Row = readonly [label: string, text: string];

/** The report `switchyard doctor` prints. */
export function describeDiagnosis(diagnosis: Diagnosis): string {
  const { cuda, ok } = diagnosis;
  const verdict = ok ? `models run here, on the CPU with ${summary(diagnosis)}` : 'models cannot run here';
  const blocks = [
    table(machineRows(diagnosis)),
    `CUDA (this version has no CUDA path; what one would need, for CUDA ${cuda.major})\n${table(cudaRows(cuda))}`,
    `${verdict}\n`,
    ...(diagnosis.steps.length > 0 ? [`missing, and what to do\n${diagnosis.steps.map(item).join('')}`] : []),
  ];
  return blocks.join('\n');
}

function summary({ engine, threads }: Diagnosis): string {
  return `the ${engine.working?.cpu.isa} kernels and ${count(threads.threads, 'thread')}`;
}

function machineRows({ node, engine, threads, providers, compiler, nvcc }: Diagnosis): Row[] {
  const { addon, library, working } = engine;
  const named = library.fromEnvironment ? ' (named by SWITCHYARD_ONNXRUNTIME)' : '';
  return [
    ['Node.js', `${node.version}, ${node.platform} ${node.arch}`],
    ['engine', working ? `ONNX Runtime ${working.version}` : 'does not work'],
    ['', `${library.path ?? 'no file for this platform'}${library.found ? '' : ': missing'}${named}`],
    ['addon', `${addon.path}${addon.built ? '' : ': not built'}`],
    ['CPU can use', working?.cpu.features.join(', ') ?? 'unknown without the engine'],
    ['kernels', working?.cpu.isa ?? 'none'],
    ['threads', `${threads.threads}: ${threadReason(threads)}`],
    ['providers', providers.join(', ') || 'none'],
    ['compiler', toolText(compiler)],
    ['nvcc', toolText(nvcc)],
  ];
}

function threadReason({ cpus, cores, quota }: ThreadBudget): string {
  const allowed =
    cpus === undefined
      ? `${count(cores, 'core')} as Node.js reports`
      : `${count(cores, 'physical core')} among the ${count(cpus, 'CPU')} this process may use`;
  return quota === undefined ? allowed : `${allowed}, and a quota of ${count(quota, 'CPU')}`;
}

function toolText(tool: Tool | undefined): string {
  return tool ? `${tool.command}: ${tool.version}` : 'none found';
}

function cudaRows({ provider, libraries, driver, driverVersion, gpus, searched }: CudaReport): Row[] {
  const version = driverVersion === undefined ? '' : `, version ${driverVersion}`;
  return [
    ...labelled('provider', provider.map(libraryText)),
    ...labelled('libraries', libraries.map(libraryText)),
    ['driver', `${libraryText(driver)}${version}`],
    ...labelled('GPUs', gpus.length > 0 ? gpus.map(gpuText) : ['none']),
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

function item({ neededFor, what, step }: Step, index: number): string {
  return `${index + 1}. for ${neededFor}: ${what}\n   → ${step}\n`;
}

function table(rows: readonly Row[]): string {
  return rows.map(([label, text]) => `  ${label.padEnd(14)}${text}\n`).join('');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
