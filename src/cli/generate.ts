import type { Command } from 'commander';
import { generativeAuto } from '../auto/auto-classes.ts';
import { InputError, TokenizerError } from '../errors.ts';
import {
  AutoConfig,
  AutoProcessor,
  AutoTokenizer,
  type CausalLM,
  DEMO_MODEL,
  type GenerateOutput,
  GenerationAbortError,
  ImageTextToText,
  type PartialOutput,
  type Processor,
  type ProcessorOutput,
  type ResolvedRepo,
  recordRouting,
  type Streamer,
  type Tokenizer,
} from '../index.ts';
import { type Io, UsageError } from './io.ts';
import { measureAhead } from './measure-ahead.ts';
import { openModelRepo } from './open-model-repo.ts';
import {
  addComputeOptions,
  type ComputeFlags,
  computeOptions,
  examples,
  experts,
  given,
  integer,
  requireDevice,
  strings,
  tokenIds,
} from './options.ts';
import { idPrinter, textPrinter } from './printers.ts';
import { createProgressDisplay, type ProgressDisplay } from './progress.ts';
import {
  type Batch,
  encode,
  encodeNegative,
  encodeWithMedia,
  type Prompt,
  type PromptFlags,
  readPrompt,
  refusePlaceholders,
} from './prompt.ts';
import {
  addSamplingOptions,
  generationOptions,
  type SamplingFlags,
  unusedSampling,
} from './sampling-options.ts';
import { describeStats, type Picture } from './stats.ts';
import { Warnings } from './warnings.ts';

export interface Flags extends PromptFlags, ComputeFlags, SamplingFlags {
  model?: string;
  revision?: string;
  experts?: string | Record<string, string>;
  logprobs?: number;
  stats?: boolean;
  routing?: string;
  routingWeights?: boolean;
  json?: boolean;
}

const EXAMPLES = examples(
  ['switchyard generate "In the beginning"', 'the bundled demo model'],
  ['switchyard generate -m Qwen/Qwen3-30B-A3B --chat "What is an expert?" --no-think', ''],
  ['cat notes.txt | switchyard generate -m ./model --chat "Summarise:"', 'piped text follows the message'],
  ['switchyard generate -p "1, 2, 3," -n 20 --stop "10" --json', ''],
);

/** `switchyard generate`: continues a prompt, answers a message, or continues raw token ids. */
export function addGenerateCommand(program: Command, io: Io): void {
  const command = program
    .command('generate')
    .description('Generate text. Without --model, the bundled demo model speaks.')
    .argument('[prompt]', 'text to continue, as --prompt')
    .option('-m, --model <model>', 'a repo on the Hugging Face Hub, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('-p, --prompt <text>', 'text to continue; by default it is read from stdin')
    .option('--prompt-file <file>', 'text to continue, from a file')
    .option('--chat <text>', 'a message to answer, put through the chat template')
    .option('--system <text>', 'what the model is told first; the prompt is a message then')
    .option('--no-think', 'answer without reasoning, where the model can; the prompt is a message then')
    .option('--input-ids <ids>', 'raw token ids, such as 1,2,3; repeat it for a batch', tokenIds)
    .option('--image <image>', 'a picture for an image-text model, as path or URL; repeatable', strings)
    .option(
      '--audio <file>',
      'a sound for a model that hears, as path or URL of a WAV file; repeatable',
      strings,
    )
    .option('--experts <spec>', 'experts backend: a name, or key=name,key=name', experts);
  addComputeOptions(command);
  addSamplingOptions(command, "the model's, else 256")
    .option('--stats', 'timing and backend on stderr')
    .option('--routing <file>', 'record which experts each token went to; see `switchyard routing`')
    .option('--routing-weights', 'with --routing, also how much each expert counted')
    .option('--json', 'print one JSON object, as of the API, instead of text')
    .option(
      '--logprobs <n>',
      'with --json: log-probabilities of the tokens, and of the n likeliest',
      integer(0, 20),
    )
    .addHelpText('after', EXAMPLES)
    .action((words: string | undefined, flags: Flags) => generate({ ...flags, ...given({ words }) }, io));
}

async function generate(flags: Flags, io: Io): Promise<void> {
  if (flags.logprobs !== undefined && !flags.json)
    throw new UsageError('--logprobs come with --json; add it, or leave them out');
  if (flags.routingWeights && flags.routing === undefined)
    throw new UsageError('--routing-weights says what --routing records; name its file, too');
  await requireDevice(flags.device);
  const prompt = await readPrompt(flags, io.stdin, io.stop);
  const display = createProgressDisplay(io.stderr);
  const warnings = new Warnings(display);
  const loaded = await load(flags, prompt, display, warnings, io);
  try {
    if (loaded.model instanceof ImageTextToText) refusePlaceholders(prompt, flags.negativePrompt);
    const batch = await encodePrompt(prompt, loaded, io);
    await measureAhead(loaded.model, flags.compile, io);
    const streamer = chooseStreamer(flags, batch, loaded, io);
    const { negativePrompt, ...sampling } = generationOptions(flags);
    const { generationDefaults: defaults } = loaded.model;
    const unused = unusedSampling(flags);
    if (unused !== undefined) warnings.warn(unused);
    const negativePromptIds =
      negativePrompt === undefined ? undefined : encodeNegative(negativePrompt, prompt, loaded.tokenizer);
    const options = {
      ...batch,
      ...sampling,
      ...given({ logprobs: flags.logprobs, negativePromptIds }),
      // A stop string of generation_config.json stays, as in transformers.
      ...(flags.stop === undefined &&
        (defaults.stopStrings ?? []).length > 0 && { includeStopStrings: true }),
      ...given({ streamer, tokenizer: loaded.tokenizer }),
      signal: io.stop,
    };
    const recorder = await startRecording(flags, loaded);
    warnings.hold();
    const output = await loaded.model
      .generate(options)
      .catch((error: unknown) => {
        // A stopped run still says what it has.
        if (error instanceof GenerationAbortError) return error.partial;
        throw error;
      })
      .finally(() => recorder?.close());
    const width = batch.inputIds[0]?.length;
    const rows = output.sequences.map((row) => row.slice(width));
    if (flags.json) io.stdout.write(`${JSON.stringify(jsonReport(output, rows, loaded))}\n`);
    else io.stdout.write(streamer ? '\n' : rows.map((row) => `${row.join(',')}\n`).join(''));
    warnings.release();
    if (flags.stats) {
      const pictures = describePictures(prompt, batch, loaded);
      io.stderr.write(
        describeStats(
          output.stats,
          backends(loaded),
          loaded.seconds,
          pictures,
          loaded.model.executionStats,
          loaded.model.stored(),
        ),
      );
    }
  } finally {
    warnings.release();
    await loaded.model.dispose();
  }
}

async function encodePrompt(prompt: Prompt, loaded: Loaded, io: Io): Promise<Batch | ProcessorOutput> {
  if ('ids' in prompt || !hasMedia(prompt)) return encode(prompt, loaded.tokenizer);
  if (!loaded.processor)
    throw new InputError(
      `${loaded.model.nameOrPath} is a text model; it takes no ${prompt.images.length > 0 ? '--image' : '--audio'}`,
    );
  return encodeWithMedia(prompt, loaded.processor, io.stop);
}

function hasMedia(prompt: Prompt): boolean {
  return !('ids' in prompt) && prompt.images.length + prompt.sounds.length > 0;
}

/** One entry a picture: where it came from, its grid of patches, and the tokens it takes. */
function describePictures(prompt: Prompt, batch: Batch | ProcessorOutput, { processor }: Loaded): Picture[] {
  if ('ids' in prompt || !processor || !('imageGridThw' in batch)) return [];
  const merge = processor.config.image.mergeSize;
  return (batch.imageGridThw ?? []).map((grid, i) => ({
    source: prompt.images[i] as string,
    grid,
    tokens: (grid[0] * grid[1] * grid[2]) / merge ** 2,
  }));
}

async function startRecording({ routing, routingWeights }: Flags, { model }: Loaded) {
  if (routing === undefined) return undefined;
  return recordRouting(model, routing, { weights: routingWeights ?? false });
}

/** A single row streams. The rows of a batch would mix, and come at the end. */
function chooseStreamer(flags: Flags, batch: Batch, { tokenizer }: Loaded, io: Io): Streamer | undefined {
  if (flags.json || batch.inputIds.length > 1) return undefined;
  return tokenizer ? textPrinter(tokenizer, io.stdout) : idPrinter(io.stdout);
}

/** What `generate` of the API gives, but `sequences` are the new tokens alone: who calls a command knows the prompt. */
function jsonReport(output: GenerateOutput | PartialOutput, sequences: number[][], loaded: Loaded) {
  const { stats, text = sequences.map(() => null), ...rest } = output;
  return { ...rest, sequences, text, experts: backends(loaded), stats };
}

const backends = ({ model }: Loaded) => model.getExpertsImplementation();

interface Loaded {
  repo: ResolvedRepo;
  model: CausalLM | ImageTextToText;
  tokenizer: Tokenizer | undefined;
  /** Of an image-text model, where the prompt has pictures. */
  processor: Processor | undefined;
  seconds: number;
}

async function load(
  flags: Flags,
  prompt: Prompt,
  display: ProgressDisplay,
  warnings: Warnings,
  io: Io,
): Promise<Loaded> {
  const started = performance.now();
  const repo = await openModelRepo(flags.model ?? DEMO_MODEL, flags, io, display);
  const [model, tokenizer] = await Promise.allSettled([
    loadModel(repo, flags, display, warnings, io),
    loadTokenizer(repo, flags, prompt, display),
  ]).finally(() => display.finish());
  if (model.status === 'rejected') throw model.reason;
  try {
    if (tokenizer.status === 'rejected') throw tokenizer.reason;
    const sees = model.value instanceof ImageTextToText && hasMedia(prompt);
    const processor = sees
      ? await AutoProcessor.fromPretrained(repo, given({ tokenizer: tokenizer.value }))
      : undefined;
    const seconds = (performance.now() - started) / 1000;
    return { repo, model: model.value, tokenizer: tokenizer.value, processor, seconds };
  } catch (error) {
    await model.value.dispose();
    throw error;
  }
}

async function loadModel(
  repo: ResolvedRepo,
  flags: Flags,
  display: ProgressDisplay,
  { warn }: Warnings,
  io: Io,
) {
  const options = {
    ...computeOptions(flags),
    ...given({ expertsImplementation: flags.experts }),
    signal: io.stop,
    onProgress: display.onProgress.bind(display),
    onWarning: warn,
  };
  return generativeAuto(await AutoConfig.fromPretrained(repo)).fromPretrained(repo, options);
}

/** Raw ids need a tokenizer only for the text in `--json`, and do without one. */
async function loadTokenizer(repo: ResolvedRepo, flags: Flags, prompt: Prompt, display: ProgressDisplay) {
  if (!('ids' in prompt)) return AutoTokenizer.fromPretrained(repo);
  if (!flags.json) return undefined;
  return AutoTokenizer.fromPretrained(repo).catch((error: unknown) => {
    if (!(error instanceof TokenizerError)) throw error;
    display.write(`warning: the output has no text: ${error.message}\n`);
    return undefined;
  });
}
