import type { Command } from 'commander';
import { checkModel, type ModelReport } from '../auto/check-model.ts';
import { SwitchyardError } from '../errors.ts';
import { type FileReport, verifyFiles } from '../hub/cache/verify.ts';
import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import { formatBytes } from '../units.ts';
import type { Io } from './io.ts';
import { examples } from './options.ts';

interface Flags {
  revision?: string;
  cacheDir?: string;
  json?: boolean;
}

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
}

/** `switchyard verify`: is everything here that a load needs, and is it whole? Nothing is fetched. */
export function addVerifyCommand(program: Command, io: Io): void {
  program
    .command('verify')
    .description(
      'Check a model on this disk: sizes, hashes, headers, and every tensor the architecture needs.',
    )
    .argument('<model>', 'a repo in the cache, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--cache-dir <folder>', 'cache folder; by default as HF_HUB_CACHE and HF_HOME say')
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples(['switchyard verify Qwen/Qwen1.5-MoE-A2.7B', '']))
    .action(async (model: string, { json, ...flags }: Flags) => {
      const print = json ? () => {} : (line: string) => void io.stdout.write(`${line}\n`);
      const options = { ...flags, localFilesOnly: true, signal: io.stop };
      const result = await verify(model, options, print);
      if (json) io.stdout.write(`${JSON.stringify(result)}\n`);
      const { length } = result.faults;
      if (length > 0)
        throw new SwitchyardError(`${model}: ${length} ${length === 1 ? 'fault' : 'faults'} found`);
    });
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
  await checkTensors(repo, result, print);
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

async function checkTensors(repo: Repo, result: Verification, print: (line: string) => void): Promise<void> {
  try {
    const report = await checkModel(repo);
    result.tensors = report;
    result.faults.push(...report.missing.map((name) => `tensor "${name}" is missing`), ...report.mismatched);
    const surplus = new Set(report.surplusExperts);
    result.faults.push(
      ...report.surplusExperts.map(
        (name) => `tensor "${name}" is of an expert beyond num_experts in config.json`,
      ),
    );
    const unused = report.unexpected.filter((name) => !surplus.has(name));
    result.notes.push(...unused.map((name) => `tensor "${name}" is not used by ${report.architecture}`));
    if (report.missing.length + report.mismatched.length + surplus.size === 0) {
      print(`ok     ${report.tensors} tensors, as ${report.architecture} needs them`);
    }
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
