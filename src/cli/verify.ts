import { type Command, InvalidArgumentError } from 'commander';
import { checkModel, type ModelReport } from '../auto/check-model.ts';
import { resolveRepo } from '../auto/open-repo.ts';
import { type Certificate, writeCertificate } from '../certify/certificate.ts';
import { STORAGES, type Storage } from '../certify/storages.ts';
import { describeCertificate } from '../certify/table.ts';
import { didYouMean, SwitchyardError, show } from '../errors.ts';
import { type FileReport, verifyFiles } from '../hub/cache/verify.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import type { Device } from '../runtime/choose-device.ts';
import { counted, formatBytes } from '../units.ts';
import { certify } from './certify.ts';
import { type Io, UsageError } from './io.ts';
import { backends as backendNames, device, examples, given, integer } from './options.ts';

interface Flags {
  revision?: string;
  cacheDir?: string;
  backends?: readonly string[] | 'all';
  storages?: readonly Storage[] | 'all';
  device?: Device;
  layers?: number;
  reference?: string;
  certificate?: string;
  json?: boolean;
}

type CertifyFlags = Pick<Flags, 'backends' | 'storages' | 'device' | 'layers' | 'reference' | 'certificate'>;

/** What `switchyard verify --json` prints. */
interface Verification {
  model: string;
  commit: string | undefined;
  files: FileReport[];
  /** How the tensors fit the architecture; undefined where config or headers are too damaged to say. */
  tensors: ModelReport | undefined;
  /** Everything that is wrong, one sentence each. */
  faults: string[];
  /** What is odd but does no harm. */
  notes: string[];
  /** With `--backends` or `--reference`: what running it has shown. */
  certificate?: Certificate;
}

/** `switchyard verify`: is everything here that a load needs, and is it whole? Nothing is fetched. */
export function addVerifyCommand(program: Command, io: Io): void {
  program
    .command('verify')
    .description(
      'Check a model on this disk: sizes, hashes, headers, every tensor the architecture needs, and scales of quantized weights.',
    )
    .argument('<model>', 'a repo in the cache, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--cache-dir <folder>', 'cache folder; by default as HF_HUB_CACHE and HF_HOME say')
    .option(
      '--backends <names>',
      'also run it, in float32, on these experts backends (a,b or all), and compare',
      backendNames,
    )
    .option(
      '--storages <names>',
      'with --backends: stored,int8,int4 or all: also with weights and activations rounded',
      storages,
    )
    .option('--device <device>', 'with --backends: on this GPU, too', device)
    .option('--layers <n>', 'with --backends: only the first n layers', integer(1))
    .option(
      '--reference <file>',
      'compare with what transformers gave (scripts/reference.py), or a certificate',
    )
    .option('--certificate <file>', 'write what was run, found and compared, as JSON')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nFiles of which the cache knows the hash are read as a whole; of others headers and scales are.',
    )
    .addHelpText(
      'after',
      examples(
        ['switchyard verify Qwen/Qwen1.5-MoE-A2.7B', 'are the files whole?'],
        ['switchyard verify ./model --backends all --certificate before.json', 'do all backends agree?'],
        ['switchyard verify ./model --reference before.json', 'is it still the same, bit by bit?'],
      ),
    )
    .action(async (model: string, flags: Flags) => {
      const { json, backends, storages, device, layers, reference, certificate, ...access } = flags;
      const print = json ? () => {} : (line: string) => void io.stdout.write(`${line}\n`);
      const wanted = given({ backends, storages, device, layers, reference, certificate });
      checkFlags(wanted);
      const options = { ...access, localFilesOnly: true, signal: io.stop };
      const result = await verify(model, options, print);
      if (runs(wanted) && result.faults.length === 0)
        await addCertificate(result, wanted, options, io, print);
      if (json) io.stdout.write(`${JSON.stringify(result)}\n`);
      const { length } = result.faults;
      if (length > 0)
        throw new SwitchyardError(`${model}: ${length} ${length === 1 ? 'fault' : 'faults'} found`);
    });
}

/** Parser of `all` or `stored,int4`; what is rounded is compared with what is stored. */
function storages(text: string): Storage[] | 'all' {
  if (text === 'all') return text;
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !(STORAGES as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(
      `Unknown storage ${show(unknown)}. Known are: ${STORAGES.join(', ')}${didYouMean(unknown, STORAGES)}`,
    );
  return STORAGES.filter((name) => name === 'stored' || names.includes(name));
}

/** Whether anything is to be run. */
function runs({ backends, reference }: CertifyFlags): boolean {
  return backends !== undefined || reference !== undefined;
}

function checkFlags(flags: CertifyFlags): void {
  const alone = (['storages', 'device', 'layers', 'certificate'] as const).find(
    (name) => flags[name] !== undefined,
  );
  if (alone !== undefined && !runs(flags))
    throw new UsageError(`--${alone} says how the model is run; add --backends all, or leave it out`);
}

async function addCertificate(
  result: Verification,
  { backends = 'all', storages = ['stored'], device, layers, reference, certificate: file }: CertifyFlags,
  options: HubOptions,
  io: Io,
  print: (line: string) => void,
): Promise<void> {
  const certificate = await certify(await resolveRepo(result.model, options), {
    ...{ storages, device, layers, reference, signal: io.stop },
    backends: backends === 'all' ? undefined : backends,
    tell: (line) => io.stderr.write(`${line}\n`),
    onWarning: (message) => io.stderr.write(`warning: ${message}\n`),
  });
  result.certificate = certificate;
  result.faults.push(...certificate.faults);
  print(describeCertificate(certificate).trimEnd());
  if (file !== undefined) await writeCertificate(file, certificate);
}

async function verify(
  model: string,
  options: HubOptions,
  print: (line: string) => void,
): Promise<Verification> {
  const repo = await resolveRepo(model, options);
  const result: Verification = {
    model,
    commit: repo.commit,
    files: [],
    tensors: undefined,
    faults: [],
    notes: [],
  };
  await checkFiles(repo, result, print, options.signal);
  await checkTensors(repo, result, print, options.signal);
  for (const note of result.notes) print(`note   ${note}`);
  for (const fault of result.faults) print(`FAULT  ${fault}`);
  if (result.faults.length === 0) print(`${model} is complete and sound`);
  return result;
}

async function checkFiles(
  repo: Repo,
  result: Verification,
  print: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    for await (const file of verifyFiles(repo, signal)) {
      result.files.push(file);
      if (file.fault !== undefined) result.faults.push(`${file.name}: ${file.fault}`);
      else print(`ok     ${file.name}  ${formatBytes(file.size)}${file.hash ? `, ${file.hash}` : ''}`);
    }
  } catch (error) {
    result.faults.push(faultOf(error));
  }
}

async function checkTensors(
  repo: Repo,
  result: Verification,
  print: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    const report = await checkModel(repo, signal);
    result.tensors = report;
    for (const name of report.missing) result.faults.push(`tensor "${name}" is missing`);
    for (const fault of report.mismatched) result.faults.push(fault);
    const surplus = new Set(report.surplusExperts);
    for (const name of surplus)
      result.faults.push(`tensor "${name}" is of an expert beyond num_experts in config.json`);
    for (const name of report.unexpected)
      if (!surplus.has(name)) result.notes.push(`tensor "${name}" is not used by ${report.architecture}`);
    if (report.missing.length + report.mismatched.length + surplus.size === 0) {
      print(`ok     ${report.tensors} tensors, as ${report.architecture} needs them`);
    }
    for (const fault of report.damaged) result.faults.push(fault);
    if (report.quantized > 0 && report.damaged.length === 0)
      print(`ok     the scales of ${counted(report.quantized, 'quantized weight')}`);
  } catch (error) {
    const fault = faultOf(error);
    if (!result.faults.includes(fault)) result.faults.push(fault);
  }
}

/** A finding about the model becomes part of the report; anything else is our own fault and goes up. */
function faultOf(error: unknown): string {
  if (error instanceof SwitchyardError && error.name !== 'AbortError') return error.message;
  throw error;
}
