import { ConfigError, expected, show } from '../errors.ts';
import { snakeCase } from '../options.ts';
import { type GenerationConfig, PARAMETER_NAMES, type ParameterName, wantedInstead } from './parameters.ts';

/** Parameters that only code can give. */
const NOT_IN_FILES: readonly ParameterName[] = [
  ...(['seed', 'logitBias', 'prefixAllowedTokensFn', 'includeStopStrings', 'logprobs'] as const),
  ...(['logitsProcessors', 'stoppingCriteria'] as const),
  // Drafts change no token; whether they pay is for the caller to know.
  ...(['promptLookupNumTokens', 'maxMatchingNgramSize'] as const),
];
/** Names in generation_config.json that are served, in snake_case. */
const SERVED = new Map(
  PARAMETER_NAMES.filter((name) => !NOT_IN_FILES.includes(name)).map((name) => [snakeCase(name), name]),
);

/**
 * Settings of transformers that would change tokens, with the values at which they do nothing. The meaning of an empty list: null
 * alone.
 */
const UNSERVED: Readonly<Record<string, readonly unknown[]>> = {
  num_beam_groups: [1],
  diversity_penalty: [0],
  penalty_alpha: [0],
  encoder_repetition_penalty: [1],
  encoder_no_repeat_ngram_size: [0],
  forced_bos_token_id: [],
  force_words_ids: [],
  constraints: [],
  watermarking_config: [],
  token_healing: [false],
  dola_layers: [],
};

/** What says nothing about which tokens come: how transformers stores, computes or reports. */
const NEUTRAL = new Set([
  ...['bos_token_id', 'decoder_start_token_id', 'transformers_version', '_from_model_config', '_commit_hash'],
  ...[
    'use_cache',
    'cache_implementation',
    'cache_config',
    'max_cache_len',
    'return_legacy_cache',
    'low_memory',
  ],
  ...['compile_config', 'disable_compile', 'prefill_chunk_size', 'continuous_batching_config', 'use_mtp'],
  ...[
    'output_attentions',
    'output_hidden_states',
    'output_scores',
    'output_logits',
    'return_dict_in_generate',
  ],
  // Of drafts, which do not change what is generated.
  ...['is_assistant', 'num_assistant_tokens', 'assistant_ensemble_weight'],
  ...['num_assistant_tokens_schedule', 'assistant_confidence_threshold', 'prompt_lookup_num_tokens'],
  ...['max_matching_ngram_size', 'assistant_early_exit', 'assistant_lookbehind', 'target_lookbehind'],
  ...['speculation_type', 'renormalize_logits', 'chat_format', 'max_window_size'],
]);

/**
 * Parsed generation_config.json (names in snake_case) as parameters. Null means not set. Each value is checked when it is looked at: one
 * that the caller replaces, or that does not count, does no harm. No file (undefined) is an empty configuration.
 *
 * @returns an object whose members throw ConfigError where the file's value will not do
 * @throws {ConfigError} the file holds no object.
 */
export function parseGenerationConfig(json: unknown, file = 'generation_config.json'): GenerationConfig {
  if (json === undefined) return {};
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError(`${file} holds ${show(json)}; expected an object of settings`);
  const config = {};
  for (const [key, name] of SERVED) {
    const value = withoutNegativeIds(name, (json as Record<string, unknown>)[key]);
    if (value === undefined || value === null) continue;
    Object.defineProperty(config, name, { enumerable: true, get: () => checked(name, key, value, file) });
  }
  return config;
}

function checked(name: ParameterName, key: string, value: unknown, file: string): unknown {
  const wanted = wantedInstead(name, value);
  if (wanted !== undefined)
    throw new ConfigError(
      `${expected(`${file}: ${key}`, value, wanted)}. Correct the file, or give ${name} in the call`,
    );
  // Greedy decoding is a choice that the file makes with do_sample; beside do_sample: true a 0 is a mistake, as in transformers.
  if (name === 'temperature' && value === 0)
    throw new ConfigError(
      `${file}: temperature is 0, but do_sample asks for sampling; expected a number above 0. Correct the file, or ` +
        'give temperature in the call, 0 for greedy decoding',
    );
  return value;
}

/** Some files write -1 for "no such token". */
function withoutNegativeIds(name: ParameterName, value: unknown): unknown {
  const isNone = (id: unknown) => typeof id === 'number' && id < 0 && Number.isInteger(id);
  if (name !== 'eosTokenId' && name !== 'padTokenId' && name !== 'forcedEosTokenId') return value;
  if (Array.isArray(value)) return value.filter((id) => !isNone(id));
  return isNone(value) ? undefined : value;
}

/** The settings of generation_config.json that have no effect here but should, each as `name: value`. */
export function unservedSettings(json: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(json)
    .filter(([key, value]) => {
      if (value === null || SERVED.has(key) || NEUTRAL.has(key)) return false;
      return !(Object.hasOwn(UNSERVED, key) && UNSERVED[key]?.includes(value));
    })
    .map(([key, value]) => `${key}: ${show(value)}`);
}

/**
 * What config.json says about generation, for checkpoints without generation_config.json: fields of its top level, then those of its
 * text_config. Source: transformers `GenerationConfig.from_model_config`.
 */
export function generationFields(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const level of [config, config.text_config]) {
    if (typeof level !== 'object' || level === null) continue;
    for (const key of [...SERVED.keys(), ...Object.keys(UNSERVED)])
      fields[key] ??= (level as Record<string, unknown>)[key];
  }
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => (value ?? null) !== null));
}
