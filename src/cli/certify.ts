/** `switchyard verify --backends`: runs a checkpoint in every way there is here, and says whether all agree. */
import { generativeAuto } from '../auto/auto-classes.ts';
import { type Certificate, makeCertificate, readReference } from '../certify/certificate.ts';
import { checksumsOf, differingChecksums } from '../certify/checksums.ts';
import { type Comparison, compareRuns, TOLERANCES } from '../certify/compare.ts';
import { fixedPrompts, NEW_TOKENS, observe, type Run } from '../certify/run.ts';
import { InputError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { AutoConfig, ExpertsInterface, type PretrainedConfig } from '../index.ts';
import { engineVersion } from '../runtime/binding.ts';
import type { Device } from '../runtime/choose-device.ts';
import { cpuInfo, cpuModel } from '../runtime/machine.ts';
import { version } from '../runtime/package-root.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';

export interface CertifyOptions {
  /** Names of backends; undefined for all that can be selected. */
  readonly backends: readonly string[] | undefined;
  /** A GPU to run on besides the CPU. */
  readonly device: Device | undefined;
  /** Only the first layers. */
  readonly layers: number | undefined;
  /** File of a reference or an earlier certificate. */
  readonly reference: string | undefined;
  readonly signal: AbortSignal;
  /** Hears of what takes a while. */
  readonly tell: (line: string) => void;
  readonly onWarning: (message: string) => void;
}

/** @throws InputError for a reference of something else; as loads do */
export async function certify(repo: Repo, options: CertifyOptions): Promise<Certificate> {
  const { layers, signal, tell } = options;
  const reference = options.reference === undefined ? undefined : await readReference(options.reference);
  if (reference && reference.layers !== layers)
    throw new InputError(
      `${options.reference} is of ${layersText(reference.layers)}, and this run of ${layersText(layers)}; ` +
        (reference.layers === undefined ? 'leave --layers out' : `give --layers ${reference.layers}`),
    );
  const { files, tensors } = await openCheckpoint(repo);
  tell('reading the weights for their checksums');
  const checksums = await checksumsOf(files, tensors.values(), signal);
  const config = await AutoConfig.fromPretrained(repo);
  const prompts = reference?.prompts ?? fixedPrompts(config.vocabSize);
  checkPrompts(prompts, config, options.reference);
  const runs = await runAll(repo, config, prompts, options);
  const references = reference ? [reference.runs[0] as Run] : [];
  const comparisons = [
    ...pairs(runs),
    ...references.flatMap((ours) => runs.map((run) => compareRuns(ours, run))),
  ];
  return makeCertificate({
    model: repo.id,
    ...(repo.commit !== undefined && { commit: repo.commit }),
    ...(layers !== undefined && { layers }),
    architecture: config.modelType,
    ...{ prompts, runs, checksums, comparisons, tolerances: TOLERANCES },
    made: {
      ...{ switchyard: version(), onnxruntime: engineVersion(), node: process.versions.node },
      ...{
        cpu: cpuModel(),
        isa: cpuInfo().isa,
        dtype: 'float32',
        newTokens: NEW_TOKENS,
        date: new Date().toISOString(),
      },
      ...(reference && { reference: `${reference.model}: ${reference.runs[0]?.name}` }),
    },
    faults: [
      ...(reference ? differingChecksums(checksums, reference.checksums) : []),
      ...comparisons
        .filter(({ verdict }) => verdict === 'different')
        .map(({ a, b }) => `${a} and ${b} differ`),
    ],
  });
}

const layersText = (layers: number | undefined) => (layers === undefined ? 'all layers' : `${layers} layers`);

function checkPrompts(
  prompts: readonly (readonly number[])[],
  { vocabSize }: PretrainedConfig,
  file = '',
): void {
  const outside = prompts.flat().find((id) => id >= vocabSize);
  if (outside !== undefined)
    throw new InputError(
      `${file} has a prompt with id ${outside}, but this model has ${vocabSize}. It is of another model`,
    );
}

/** Each backend on each device, in float32: what is left of differences then comes of the order of sums. */
async function runAll(
  repo: Repo,
  config: PretrainedConfig,
  prompts: readonly (readonly number[])[],
  { backends, device, layers, signal, tell, onWarning }: CertifyOptions,
): Promise<Run[]> {
  const names = config.experts ? (backends ?? ExpertsInterface.names()) : ['eager'];
  const runs: Run[] = [];
  for (const where of new Set<Device>(['cpu', device ?? 'cpu'])) {
    const model = await generativeAuto(config).fromPretrained(repo, {
      ...{ dtype: 'float32', device: where, prefixCache: false, signal },
      // Layers that are left out leave their tensors over.
      onWarning: layers === undefined ? onWarning : () => {},
      ...(layers !== undefined && { config: firstLayers(config.json, layers) }),
    });
    try {
      for (const name of names) {
        tell(`running ${name} on ${where}`);
        model.setExpertsImplementation(name);
        runs.push(await observe(model, `${name} on ${where}`, prompts, signal));
      }
    } finally {
      await model.dispose();
    }
  }
  return runs;
}

/** Fields of config.json for a model of the first layers. */
function firstLayers(json: Readonly<Record<string, unknown>>, layers: number): Record<string, unknown> {
  const inner = json.text_config;
  if (typeof inner === 'object' && inner !== null)
    return { text_config: { ...inner, ...firstLayers(inner as Record<string, unknown>, layers) } };
  const { layer_types: types } = json;
  return { num_hidden_layers: layers, ...(Array.isArray(types) && { layer_types: types.slice(0, layers) }) };
}

function pairs(runs: readonly Run[]): Comparison[] {
  return runs.flatMap((a, i) => runs.slice(i + 1).map((b) => compareRuns(a, b)));
}

/** The certificate as a table. */
export function describeCertificate({
  comparisons,
  tolerances,
  prompts,
  runs,
  checksums,
  verdict,
  faults,
}: Certificate): string {
  const lengths = prompts.map(({ length }) => length).join(', ');
  const rows = comparisons.map(
    ({ a, b, logits, choices, changed, undecided, positions, greedyDiffers, verdict }) => [
      `${a} / ${b}`,
      logits.toExponential(1),
      `${changed} of ${choices}`,
      `${undecided} of ${positions}`,
      greedyDiffers === 0 ? 'same' : `differ in ${greedyDiffers}`,
      verdict,
    ],
  );
  const head = ['ways', 'logits', 'experts changed', 'undecided', 'greedy', 'verdict'];
  const table = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...table.map((row) => (row[column] as string).length)));
  const lines = table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] as number))
      .join('  ')
      .trimEnd(),
  );
  return [
    `${runs.length} ways in float32, prompts of ${lengths} tokens, ${NEW_TOKENS} greedy tokens after each`,
    ...(rows.length > 0 ? lines : ['one way only; nothing to compare it with']),
    `logits may differ by ${tolerances.logits} of the largest; router logits closer than ${tolerances.tie} are ties, behind which nothing is decided`,
    `${Object.keys(checksums.files).length} files and ${Object.keys(checksums.tensors).length} tensors have their SHA-256 in the certificate`,
    ...faults.map((fault) => `FAULT  ${fault}`),
    verdict === 'pass' ? 'all agree' : 'they do not agree',
    '',
  ].join('\n');
}
