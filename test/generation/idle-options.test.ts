/** Options that would change nothing are refused by name, wherever a call gives them; generation_config.json may hold them, as that of transformers does. */
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { type GenerationConfig, PARAMETER_NAMES } from '../../src/generation/parameters.ts';
import { unsupportedReason } from '../../src/generation/unsupported.ts';
import { camelCase } from '../../src/options.ts';
import { model, run } from './generating.ts';

/** What counts beside something else, and that. */
const PAIRS: [GenerationConfig, GenerationConfig, string][] = [
  [{ temperature: 0.7 }, { doSample: true }, 'doSample: true'],
  [{ topK: 5 }, { doSample: true }, 'doSample: true'],
  [{ topP: 0.9 }, { doSample: true }, 'doSample: true'],
  [{ topH: 0.4 }, { doSample: true }, 'doSample: true'],
  [{ minP: 0.1 }, { doSample: true }, 'doSample: true'],
  [{ typicalP: 0.9 }, { doSample: true }, 'doSample: true'],
  [{ epsilonCutoff: 0.001 }, { doSample: true }, 'doSample: true'],
  [{ etaCutoff: 0.001 }, { doSample: true }, 'doSample: true'],
  [{ earlyStopping: true }, { numBeams: 2 }, 'numBeams above 1'],
  [{ lengthPenalty: 0.5 }, { numBeams: 2 }, 'numBeams above 1'],
  [{ maxMatchingNgramSize: 3 }, { promptLookupNumTokens: 2 }, 'promptLookupNumTokens'],
  [{ exponentialDecayLengthPenalty: [2, 1.1] }, { eosTokenId: 9 }, 'eosTokenId'],
];

describe.each(PAIRS)('%o', (option, companion, wanted) => {
  const [name] = Object.keys(option) as [keyof GenerationConfig];

  it('is refused alone', async () => {
    for (const [options, where] of [
      [option, 'generate'],
      [{ generationConfig: option }, 'generationConfig'],
    ] as const) {
      const promise = run(options);
      await expect(promise).rejects.toBeInstanceOf(InputError);
      await expect(promise).rejects.toThrow(
        new RegExp(
          `^${where}: ${name} is .*, which has no effect without ${wanted}.* Set that, or leave ${name} out`,
        ),
      );
    }
    expect(model.open).toBe(0);
  });

  it('counts beside what it needs, on whatever level that stands', async () => {
    await run({ ...option, ...companion });
    await run({ ...option, generationConfig: companion });
    await run({ ...companion, generationConfig: option });
    await run(option, companion);
  });

  it('may stand in generation_config.json', async () => {
    await run({}, option);
  });
});

it('what a set of options brings itself is in order where a call switches it off', async () => {
  const generationConfig = { numBeams: 3, earlyStopping: true, promptLookupNumTokens: 3 };
  await run({ numBeams: 1, generationConfig: { numBeams: 3, lengthPenalty: 2 } });
  await expect(run({ generationConfig: { ...generationConfig, numBeams: 1 } })).rejects.toThrow(
    /earlyStopping is true/,
  );
});

it('values that ask for nothing are in order', async () => {
  const nothing = {
    temperature: 1,
    topK: 50,
    topP: 1,
    minP: 0,
    typicalP: 1,
    topH: 0,
    epsilonCutoff: 0,
    etaCutoff: 0,
  };
  await run({
    ...nothing,
    earlyStopping: false,
    lengthPenalty: 1,
    maxMatchingNgramSize: 2,
    includeStopStrings: false,
  });
  await expect(run({ includeStopStrings: true })).rejects.toThrow(/no effect without stopStrings/);
});

/** Fields of `GenerationConfig` of transformers 5.18, and arguments of its `generate`. */
const OF_TRANSFORMERS = `
  assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind assistant_model
  bad_words_ids begin_suppress_tokens bos_token_id cache_config cache_implementation compile_config constraints
  continuous_batching_config custom_generate decoder_start_token_id disable_compile diversity_penalty do_sample dola_layers
  early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty eos_token_id epsilon_cutoff eta_cutoff
  exponential_decay_length_penalty force_words_ids forced_bos_token_id forced_eos_token_id guidance_scale is_assistant
  length_penalty logits_processor low_memory max_cache_len max_length max_matching_ngram_size max_new_tokens max_time
  min_length min_new_tokens min_p negative_prompt_attention_mask no_repeat_ngram_size num_assistant_tokens
  num_assistant_tokens_schedule num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
  output_logits output_scores pad_token_id past_key_values penalty_alpha prefill_chunk_size prefix_allowed_tokens_fn
  prompt_lookup_num_tokens remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate sequence_bias
  speculation_type stop_strings stopping_criteria suppress_tokens synced_gpus target_lookbehind temperature token_healing
  top_h top_k top_p transformers_version typical_p use_cache use_model_defaults use_mtp watermarking_config`
  .trim()
  .split(/\s+/);

describe('options of transformers', () => {
  it('are parameters, or are refused with what to do instead', () => {
    const neither = OF_TRANSFORMERS.map(camelCase).filter(
      (name) =>
        !(PARAMETER_NAMES as readonly string[]).includes(name) && unsupportedReason(name) === undefined,
    );
    expect(neither).toEqual([]);
  });

  it.each([
    'prefillChunkSize',
    'isAssistant',
    'useModelDefaults',
    'negative_prompt_attention_mask',
    'inputsEmbeds',
  ])('such as %s are no misspellings', async (name) => {
    const refused = run({ [name]: true });
    await expect(refused).rejects.toThrow(
      `generate: "${name}" is an option of transformers that is not supported: `,
    );
    await expect(refused).rejects.not.toThrow('Did you mean');
  });
});
