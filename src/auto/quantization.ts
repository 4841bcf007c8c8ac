import { ConfigError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { readJsonFile } from '../json.ts';

/** How a checkpoint is quantized, as far as its settings tell. */
export interface Quantization {
  /** Name of the method, such as `gptq`. */
  readonly method: string;
  /** Bits of a weight, where they are said. */
  readonly bits: number | undefined;
  /** Where it stands: a file, and a field of config.json. */
  readonly source: string;
}

type Settings = Readonly<Record<string, unknown>>;

/** Fields of config.json that hold the settings of a quantizer, and what it is where they do not name it. */
const FIELDS: readonly (readonly [field: string, method: string])[] = [
  ['quantization_config', 'an unnamed method'],
  // Written by MLX beside or instead of the former.
  ['quantization', 'mlx'],
  ['compression_config', 'compressed-tensors'],
];

/** Files that hold them where config.json says nothing, and who writes them. */
const FILES: readonly (readonly [file: string, method: string])[] = [
  ['quantize_config.json', 'gptq'],
  ['quant_config.json', 'awq'],
  ['hf_quant_config.json', 'modelopt'],
];

/**
 * What a repo says about its quantization: in config.json, or in the file of a tool that leaves config.json alone. No weight is
 * looked at or fetched.
 * @param json config.json
 * @returns undefined for a checkpoint that does not say it is quantized
 */
export async function findQuantization(repo: Repo, json: Settings): Promise<Quantization | undefined> {
  const told = quantizationOf(json);
  if (told) return told;
  const paths = await Promise.all(FILES.map(([file]) => repo.file(file)));
  for (const [i, path] of paths.entries()) {
    const [, method] = FILES[i] as (typeof FILES)[number];
    const settings = path === undefined ? undefined : asSettings(await readJsonFile(path));
    if (settings) return describe(settings, method, path as string);
  }
  return undefined;
}

/** What config.json says about quantization, at its top level or in a sub-config. */
export function quantizationOf(json: Settings): Quantization | undefined {
  const levels = [
    ['', json],
    ...Object.entries(json)
      .filter(([name]) => name.endsWith('_config'))
      .map(([name, level]) => [`${name}.`, level] as const),
  ] as const;
  for (const [path, level] of levels) {
    for (const [field, method] of FIELDS) {
      const given = asSettings(level)?.[field];
      const settings =
        typeof given === 'string' && given !== '' ? { quant_method: given } : asSettings(given);
      if (settings && Object.keys(settings).length > 0)
        return describe(settings, method, `config.json: ${path}${field}`);
    }
  }
  return undefined;
}

/**
 * Refuses a quantized checkpoint before its weights are fetched or opened.
 * @throws ConfigError naming method, bits and a way out
 */
export async function refuseQuantized(repo: Repo, json: Settings): Promise<void> {
  const found = await findQuantization(repo, json);
  if (!found) return;
  const { method, bits, source } = found;
  throw new ConfigError(
    `${repo.id} is quantized (${method}${bits === undefined ? '' : `, ${bits} bits`}), which is not supported: ${source} says so. ` +
      'Take the repo of the same model with bfloat16, float16 or float32 weights, usually the one without a suffix such as -FP8, ' +
      '-GPTQ-Int4 or -AWQ',
  );
}

function describe(given: Settings, unnamed: string, source: string): Quantization {
  // ModelOpt nests its settings.
  const settings = { ...given, ...asSettings(given.quantization) };
  const method = methodOf(settings, unnamed);
  return { method, bits: bitsOf(settings) ?? bitsOfName(method), source };
}

function methodOf(settings: Settings, unnamed: string): string {
  const { quant_method: method = toolOf(settings) ?? unnamed, quant_algo: algorithm, format } = settings;
  const named = [method, algorithm ?? format].filter((name) => typeof name === 'string' && name !== '');
  return named.length > 0 ? [...new Set(named)].join(' ') : unnamed;
}

/** Who writes such settings without a name. */
function toolOf(settings: Settings): string | undefined {
  if (settings.load_in_4bit === true || settings.load_in_8bit === true) return 'bitsandbytes';
  if ('quant_algo' in settings) return 'modelopt';
  if (!('group_size' in settings && 'bits' in settings)) return undefined;
  return 'checkpoint_format' in settings || 'desc_act' in settings ? 'gptq' : 'mlx';
}

/** Names under which tools state the bits, at the top or further inside. */
const BITS = ['bits', 'w_bit', 'nbits', 'num_bits', 'weight_bits', 'wbits'];
/** Where they may lie further inside. */
const INSIDE = [
  ...['weights', 'weight_quant_params', 'quant_config', 'weight', 'quant_type', 'default'],
  'global_quant_config',
];

function bitsOf(settings: Settings, depth = 4): number | undefined {
  if (settings.load_in_4bit === true) return 4;
  if (settings.load_in_8bit === true) return 8;
  for (const name of BITS) if (typeof settings[name] === 'number') return settings[name];
  for (const name of ['weights', 'quant_type', 'weights_dtype', 'dtype', 'fmt', '_type', 'quant_algo']) {
    const bits = bitsOfName(settings[name]);
    if (bits !== undefined) return bits;
  }
  if (depth === 0) return undefined;
  const groups = asSettings(settings.config_groups);
  const inner = [...Object.values(groups ?? {}), ...INSIDE.map((name) => settings[name])];
  for (const level of inner) {
    const found = asSettings(level);
    const bits = found && bitsOf(found, depth - 1);
    if (bits !== undefined) return bits;
  }
  return undefined;
}

/** Bits in words such as `int4_weight_only`, `fp8`, `NVFP4`, `qint8`, `e4m3`. */
function bitsOfName(name: unknown): number | undefined {
  if (typeof name !== 'string') return undefined;
  if (/e4m3|e5m2/i.test(name)) return 8;
  const [, bits] = /(?:int|fp|float|nf|w|mxfp|nvfp)(2|3|4|5|6|8)(?!\d)/i.exec(name) ?? [];
  return bits === undefined ? undefined : Number(bits);
}

function asSettings(value: unknown): Settings | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Settings)
    : undefined;
}
