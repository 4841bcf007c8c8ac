import { z } from 'zod';
import { didYouMean } from '../errors.ts';
import { computeRope, ROPE_TYPES, type RopeParameters, type RopeType } from '../nn/rope-frequencies.ts';
import { fieldError, MAX_HEAD_DIM, parseConfig, shortList, size } from './config.ts';

const number = z.number().positive();
const factors = shortList(number, MAX_HEAD_DIM);

const ropeSchema = z.looseObject({
  rope_theta: number,
  factor: number.optional(),
  original_max_position_embeddings: size.optional(),
  attention_factor: number.optional(),
  mscale: z.number().nonnegative().optional(),
  mscale_all_dim: z.number().nonnegative().optional(),
  beta_fast: z.number().nonnegative().optional(),
  beta_slow: z.number().nonnegative().optional(),
  truncate: z.boolean().optional(),
  low_freq_factor: number.optional(),
  high_freq_factor: number.optional(),
  short_factor: factors.optional(),
  long_factor: factors.optional(),
  partial_rotary_factor: z.number().positive().max(1).optional(),
});
type Settings = z.output<typeof ropeSchema>;
type SettingName = keyof z.infer<typeof ropeSchema> & string;

/** What each type reads besides theta; the rest of the dictionary is not looked at. */
const READ_BY_TYPE: Readonly<Record<RopeType, readonly SettingName[]>> = {
  default: [],
  linear: ['factor'],
  dynamic: ['factor'],
  yarn: [
    ...(['factor', 'original_max_position_embeddings', 'attention_factor', 'truncate'] as const),
    ...(['mscale', 'mscale_all_dim', 'beta_fast', 'beta_slow'] as const),
  ],
  longrope: ['factor', 'original_max_position_embeddings', 'attention_factor', 'short_factor', 'long_factor'],
  llama3: ['factor', 'original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor'],
  proportional: ['factor', 'partial_rotary_factor'],
};
/** Types whose original length stands in the config, beside the dictionary or in it. */
const WITH_ORIGINAL: readonly RopeType[] = ['yarn', 'longrope', 'llama3'];

interface RopeFields {
  readonly max_position_embeddings: number;
  readonly original_max_position_embeddings?: number | undefined;
  readonly rope_theta?: number | undefined;
  readonly partial_rotary_factor?: number | undefined;
  readonly rope_scaling?: Record<string, unknown> | undefined;
  readonly rope_parameters?: Record<string, unknown> | undefined;
}

/** Where rope settings lie, for messages and defaults. */
export interface RopePlace {
  readonly file: string;
  /** Prefix of field names, such as `text_config.`. */
  readonly path: string;
  readonly headDim: number;
  /** Of the model's class. */
  readonly defaultTheta: number;
  /** Of the model's class, where it rotates the first dimensions of a head and leaves the rest: their share of them. */
  readonly defaultPartial?: number | undefined;
  /** Kinds of attention that layers have, for settings kind by kind. */
  readonly layerTypes: readonly string[];
}

/** A dictionary of rope settings as the file has it. */
export interface RopeDictionary {
  /** Its full name, such as `text_config.rope_scaling`. */
  readonly field: string;
  readonly given: Record<string, unknown>;
}

export interface ParsedRope {
  /** The dictionary in force. */
  readonly dictionary: RopeDictionary;
  readonly parameters: RopeParameters;
  /** Dimensions of a head that are rotated, its first ones. */
  readonly rotaryDim: number;
  /** Most positions of a sequence: what the scaling reaches, where there is one, but no less than `max_position_embeddings`. */
  readonly contextLength: number;
}

/**
 * The rope settings of a text config. A non-empty `rope_scaling` (older files) replaces `rope_parameters`; `type` is an
 * older name of `rope_type`; theta comes from the dictionary, else from the top level, else from the class default
 * (HF `RotaryEmbeddingConfigMixin`, which does not look into `rope_parameters` beside a `rope_scaling`).
 * @throws ConfigError naming field and value
 */
export function parseRope(config: RopeFields, place: RopePlace): ParsedRope {
  const { file, path, headDim } = place;
  const dictionary = ropeDictionary(config, place);
  const { field, given } = dictionary;
  const type = ropeType(given, field, file);
  const read = READ_BY_TYPE[type];
  const used = Object.entries(given).filter(([key]) => (read as readonly string[]).includes(key));
  // Files of both spellings keep theta in the newer one, where a scaling laid over them in the older one has none.
  const theta =
    given.rope_theta ?? config.rope_theta ?? config.rope_parameters?.rope_theta ?? place.defaultTheta;
  const settings = parseConfig(ropeSchema, { ...Object.fromEntries(used), rope_theta: theta }, file, field);
  const fault = (name: SettingName, wanted: string) =>
    fieldError(file, `${field}.${name}`, given[name], wanted);
  const partial = given.partial_rotary_factor ?? config.partial_rotary_factor ?? place.defaultPartial ?? 1;
  if (partial !== 1 && type !== 'default' && type !== 'proportional' && place.defaultPartial === undefined)
    throw fieldError(file, `${path}partial_rotary_factor`, partial, `1 with rope type ${type}`);
  const rotaryDim = place.defaultPartial === undefined ? headDim : rotatedDimensions(partial, place);

  const { max_position_embeddings: max } = config;
  const stated = WITH_ORIGINAL.includes(type)
    ? (config.original_max_position_embeddings ?? settings.original_max_position_embeddings)
    : undefined;
  const original = stated ?? max;
  const factor = scalingFactor(type, settings, stated, max);
  if (factor === undefined) throw fault('factor', `a number above 0, as rope type ${type} scales by it`);
  if (type === 'llama3') checkLlama3(settings, fault);
  if (type === 'longrope') checkLongrope(settings, rotaryDim / 2, fault);
  const parameters: RopeParameters = {
    type,
    theta: settings.rope_theta,
    factor,
    original,
    attentionFactor: settings.attention_factor,
    mscale: settings.mscale,
    mscaleAllDim: settings.mscale_all_dim,
    betaFast: settings.beta_fast,
    betaSlow: settings.beta_slow,
    truncate: settings.truncate,
    lowFreqFactor: settings.low_freq_factor,
    highFreqFactor: settings.high_freq_factor,
    shortFactor: settings.short_factor,
    longFactor: settings.long_factor,
    partialRotaryFactor: settings.partial_rotary_factor,
  };
  const contextLength = type === 'default' ? max : Math.max(max, Math.floor(factor * original));
  if (!turnsByNumbers(parameters, rotaryDim, contextLength))
    throw fieldError(file, field, { rope_theta: theta, ...given }, 'numbers that give angles in float32');
  return { dictionary, rotaryDim, parameters, contextLength };
}

/** Whether every angle, and the factor on its cosine, can be computed; else the model would compute no number for any token. */
function turnsByNumbers(parameters: RopeParameters, rotaryDim: number, positions: number): boolean {
  const { inverseFrequencies, attentionScaling, byLength } = computeRope(parameters, rotaryDim);
  const far = byLength?.kind === 'longrope' ? byLength.inverseFrequencies : [];
  return [attentionScaling, ...inverseFrequencies, ...far].every((number) =>
    Number.isFinite(Math.fround(number * positions)),
  );
}

/** HF truncates, and completes the last pair. */
function rotatedDimensions(partial: unknown, { file, path, headDim }: RopePlace): number {
  const dimensions = typeof partial === 'number' && partial <= 1 ? Math.trunc(headDim * partial) : 0;
  if (dimensions > 0) return dimensions + (dimensions % 2);
  throw fieldError(
    file,
    `${path}partial_rotary_factor`,
    partial,
    `at least 1 / head_dim (${headDim}), at most 1`,
  );
}

type Fault = (name: SettingName, wanted: string) => Error;

/** The one in force. Kinds of attention may each have one; those that layers use must then agree. */
function ropeDictionary(config: RopeFields, { file, path, layerTypes }: RopePlace): RopeDictionary {
  const scaling = config.rope_scaling && Object.keys(config.rope_scaling).length > 0;
  const name = `${path}${scaling ? 'rope_scaling' : 'rope_parameters'}`;
  const given = (scaling ? config.rope_scaling : config.rope_parameters) ?? {};
  const kinds = Object.keys(given).filter((key) => /_attention$/.test(key) && typeof given[key] === 'object');
  if (kinds.length === 0) return { field: name, given };
  const [first, ...others] = kinds.filter((kind) => given[kind] !== null && layerTypes.includes(kind));
  if (first === undefined) throw fieldError(file, name, given, `settings for ${layerTypes.join(' and ')}`);
  for (const other of others) {
    if (JSON.stringify(given[other]) !== JSON.stringify(given[first]))
      throw fieldError(
        file,
        `${name}.${other}`,
        given[other],
        `the settings of ${first}; one rope for all layers is supported`,
      );
  }
  return { field: `${name}.${first}`, given: given[first] as Record<string, unknown> };
}

function ropeType(given: Record<string, unknown>, field: string, file: string): RopeType {
  const key = given.rope_type === undefined || given.rope_type === null ? 'type' : 'rope_type';
  const named = given[key] ?? 'default';
  // Qwen-VL configs of older versions say "mrope" for the default frequencies with three position axes.
  if (named === 'mrope') return 'default';
  const type = ROPE_TYPES.find((known) => known === named);
  if (type) return type;
  const known = `one of ${ROPE_TYPES.join(', ')}${didYouMean(named, ROPE_TYPES)}`;
  throw fieldError(file, `${field}.${key}`, named, known);
}

/** The factor, which files of some models leave to the ratio of the two lengths. */
function scalingFactor(
  type: RopeType,
  { factor }: Settings,
  stated: number | undefined,
  max: number,
): number | undefined {
  if (factor !== undefined) return factor;
  if (type === 'default' || type === 'proportional') return 1;
  return type !== 'llama3' && stated !== undefined ? max / stated : undefined;
}

function checkLlama3({ low_freq_factor: low, high_freq_factor: high }: Settings, fault: Fault): void {
  if (low === undefined) throw fault('low_freq_factor', 'a number above 0');
  if (high === undefined || high <= low) throw fault('high_freq_factor', `a number above ${low}`);
}

function checkLongrope(settings: Settings, pairs: number, fault: Fault): void {
  for (const name of ['short_factor', 'long_factor'] as const)
    if (settings[name]?.length !== pairs)
      throw fault(name, `${pairs} numbers above 0, one for each pair of head_dim`);
}
