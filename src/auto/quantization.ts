import { ConfigError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { readJsonFile } from '../json.ts';
import type { ModuleReader, QuantizationSettings, Settings } from '../weights/formats/format.ts';
import { openFormat } from '../weights/formats/registry.ts';

/** Fields of config.json that hold the settings of a quantizer, and what it is where they do not name it. */
const FIELDS: readonly (readonly [field: string, method: string | undefined])[] = [
  ['quantization_config', undefined],
  // Written by MLX beside or instead of the former.
  ['quantization', 'mlx'],
  ['compression_config', 'compressed-tensors'],
];

/** Files that hold them where config.json says nothing, who writes them, and the field in which they stand. */
const FILES: readonly (readonly [file: string, method: string, field: string])[] = [
  ['quantize_config.json', 'gptq', ''],
  ['quant_config.json', 'awq', ''],
  ['hf_quant_config.json', 'modelopt', 'quantization'],
];

/** Everything that may say how a checkpoint is quantized, in words. */
export const SETTINGS_PLACES = `quantization_config in config.json, or ${FILES.map(([file]) => file).join(', ')}`;

/**
 * What a repo says about its quantization: in config.json, or in the file of a tool that leaves config.json alone. No weight is
 * looked at or fetched.
 * @param json config.json
 * @returns undefined for a checkpoint that does not say it is quantized
 * @throws ConfigError for settings without a method by which they could be read
 */
export async function findQuantization(
  repo: Repo,
  json: Settings,
): Promise<QuantizationSettings | undefined> {
  const told = quantizationOf(json);
  if (told) return told;
  const paths = await Promise.all(FILES.map(([file]) => repo.file(file)));
  for (const [i, path] of paths.entries()) {
    const [, method, field] = FILES[i] as (typeof FILES)[number];
    const content = path === undefined ? undefined : asSettings(await readJsonFile(path));
    const settings = field === '' ? content : asSettings(content?.[field]);
    if (settings) return describe(settings, method, path as string, field);
  }
  return undefined;
}

/**
 * How the quantized weights of a repo are read; no weight is looked at or fetched.
 * @param json config.json
 * @returns undefined for a checkpoint that does not say it is quantized
 * @throws ConfigError for a method that is not known, with the list of those that are, and for settings that are not served
 */
export async function openQuantization(
  repo: Repo,
  json: Settings,
  onWarning: (message: string) => void = () => {},
): Promise<ModuleReader | undefined> {
  const settings = await findQuantization(repo, json);
  return settings && openFormat(settings, onWarning);
}

/** What config.json says about quantization, at its top level or in a sub-config. */
function quantizationOf(json: Settings): QuantizationSettings | undefined {
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
        return describe(settings, method, 'config.json', `${path}${field}`);
    }
  }
  return undefined;
}

function describe(
  json: Settings,
  unnamed: string | undefined,
  file: string,
  field: string,
): QuantizationSettings {
  const { quant_method: named } = json;
  const method = typeof named === 'string' && named !== '' ? named : (toolOf(json) ?? unnamed);
  if (method !== undefined) return { method, json, file, field };
  throw new ConfigError(
    `${file}: ${field}.quant_method is not given, and its other fields (${Object.keys(json).slice(0, 10).join(', ')}) are of no tool that is known`,
  );
}

/** Who writes such settings without a name. */
function toolOf(settings: Settings): string | undefined {
  if (settings.load_in_4bit === true || settings.load_in_8bit === true) return 'bitsandbytes';
  if ('quant_algo' in settings) return 'modelopt';
  if (!('group_size' in settings && 'bits' in settings)) return undefined;
  return 'checkpoint_format' in settings || 'desc_act' in settings ? 'gptq' : 'mlx';
}

function asSettings(value: unknown): Settings | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Settings)
    : undefined;
}
