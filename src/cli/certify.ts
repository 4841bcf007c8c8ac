/** `switchyard verify --backends`: runs a checkpoint in every way there is here, and says whether all agree. */
import { generativeAuto } from '../auto/auto-classes.ts';
import type { StoredWeight } from '../auto/stored-weights.ts';
import { type Certificate, makeCertificate, readReference } from '../certify/certificate.ts';
import { checksumsOf, differingChecksums } from '../certify/checksums.ts';
import { compareRuns, DISTANCES, TOLERANCES } from '../certify/compare.ts';
import { fixedPrompts, NEW_TOKENS, observe, type Run } from '../certify/run.ts';
import {
  compareForms,
  type Form,
  type FormRuns,
  formName,
  STORAGES,
  type Storage,
} from '../certify/storages.ts';
import { InputError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { AutoConfig, ExpertsInterface, type LoadOptions, type PretrainedConfig } from '../index.ts';
import { engineVersion } from '../runtime/binding.ts';
import type { Device } from '../runtime/choose-device.ts';
import { cpuInfo, cpuModel } from '../runtime/machine.ts';
import { version } from '../runtime/package-root.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';
import { counted } from '../units.ts';

export interface CertifyOptions {
  /** Names of backends; undefined for all that can be selected. */
  readonly backends: readonly string[] | undefined;
  /** Forms of the weights, each run on every backend; `all` leaves rounded ones out where a publisher has rounded the weights. */
  readonly storages: readonly Storage[] | 'all';
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
  const forms = await runForms(repo, config, prompts, options);
  const references = reference ? [reference.runs[0] as Run] : [];
  // What is rounded here was not rounded there.
  const exact = forms.filter(({ storage, int8Activations }) => storage === 'stored' && !int8Activations);
  const comparisons = [
    ...compareForms(forms),
    ...references.flatMap((theirs) =>
      exact.flatMap(({ runs }) => runs.map((run) => compareRuns(theirs, run))),
    ),
  ];
  const runs = forms.flatMap((form) => form.runs);
  return makeCertificate({
    model: repo.id,
    ...(repo.commit !== undefined && { commit: repo.commit }),
    ...(layers !== undefined && { layers }),
    architecture: config.modelType,
    ...{ prompts, runs, checksums, comparisons, tolerances: { ...TOLERANCES, distances: DISTANCES } },
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

const layersText = (layers: number | undefined) =>
  layers === undefined ? 'all layers' : counted(layers, 'layer');

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

/** What a checkpoint is run with. */
type Prompts = readonly (readonly number[])[];

/** Every form of the checkpoint, with exact activations and, where that means anything, with rounded ones. */
async function runForms(
  repo: Repo,
  config: PretrainedConfig,
  prompts: Prompts,
  options: CertifyOptions,
): Promise<FormRuns[]> {
  const { storages, tell } = options;
  const isAlone = storages !== 'all' && storages.length === 1;
  const forms: FormRuns[] = [];
  for (const storage of storages === 'all' ? STORAGES : storages) {
    const exact = { storage, int8Activations: false };
    const { runs, weights } = await runForm(repo, config, prompts, exact, options);
    forms.push({ ...exact, runs });
    if (!isAlone && weights.some(({ meetsBytes }) => meetsBytes)) {
      const rounded = { storage, int8Activations: true };
      forms.push({ ...rounded, runs: (await runForm(repo, config, prompts, rounded, options)).runs });
    }
    if (storage === 'stored' && storages === 'all' && weights.some(({ storage: name }) => CODES.test(name))) {
      tell('its weights are quantized; they are not rounded further');
      break;
    }
  }
  return forms;
}

/** Weights that are quantized at all, as `StoredWeight.storage` calls them. */
const CODES = /^[a-z]/;

/** Each backend on each device, in float32: what is left of differences then comes of the order of sums. */
async function runForm(
  repo: Repo,
  config: PretrainedConfig,
  prompts: Prompts,
  form: Form,
  { backends, device = 'cpu', layers, signal, tell, onWarning }: CertifyOptions,
) {
  const names = config.experts ? (backends ?? ExpertsInterface.names()) : ['eager'];
  const runs: Run[] = [];
  let weights: readonly StoredWeight[] = [];
  // Activations are rounded on the CPU only.
  for (const where of new Set<Device>(form.int8Activations ? ['cpu'] : ['cpu', device])) {
    const model = await generativeAuto(config).fromPretrained(repo, {
      ...{ dtype: 'float32', device: where, prefixCache: false, signal, ...formOptions(form) },
      // Layers that are left out leave their tensors over.
      onWarning: layers === undefined ? onWarning : () => {},
      ...(layers !== undefined && { config: firstLayers(config.json, layers) }),
    });
    try {
      // Where auto means the CPU, that has been asked already.
      if (where !== 'cpu' && model.executionStats.device === 'cpu') continue;
      weights = model.stored().weights;
      for (const experts of names) {
        const name = `${experts} on ${where === 'auto' ? 'cuda' : where}${formName(form)}`;
        tell(`running ${name}`);
        model.setExpertsImplementation(experts);
        runs.push(await observe(model, name, prompts, signal));
      }
    } finally {
      await model.dispose();
    }
  }
  return { runs, weights };
}

function formOptions({ storage, int8Activations }: Form): LoadOptions {
  return {
    ...(storage !== 'stored' && { quantization: storage }),
    activationQuantization: int8Activations ? 'int8' : 'none',
  };
}

/** Fields of config.json for a model of the first layers. */
function firstLayers(json: Readonly<Record<string, unknown>>, layers: number): Record<string, unknown> {
  const inner = json.text_config;
  if (typeof inner === 'object' && inner !== null)
    return { text_config: { ...inner, ...firstLayers(inner as Record<string, unknown>, layers) } };
  const { layer_types: types } = json;
  return { num_hidden_layers: layers, ...(Array.isArray(types) && { layer_types: types.slice(0, layers) }) };
}
