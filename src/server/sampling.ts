import * as z from 'zod';
import type { CausalLM, CausalLMGenerateOptions } from '../index.ts';
import type { AnswerRequest } from './answer-request.ts';
import { badField } from './api-error.ts';
import type { Settings } from './options.ts';
import { listOf, maybe } from './request.ts';

/** By id. */
const biases = z.record(
  z.string().regex(/^\d+$/, 'expected a token id as its name'),
  z.number().min(-100).max(100),
);

/** How tokens are chosen, as the APIs and the servers of others name it. */
export const samplingFields = {
  temperature: maybe(z.number().min(0).max(10)),
  top_p: maybe(z.number().min(0).max(1)),
  top_k: maybe(z.int().min(-1)),
  min_p: maybe(z.number().min(0).max(1)),
  typical_p: maybe(z.number().gt(0).max(1)),
  presence_penalty: maybe(z.number().min(-2).max(2)),
  frequency_penalty: maybe(z.number().min(-2).max(2)),
  repetition_penalty: maybe(z.number().gt(0)),
  logit_bias: maybe(biases),
  seed: maybe(z.int()),
  stop: maybe(z.union([z.string(), listOf(z.string(), { most: 16 })])),
  /** As vLLM has it: the text that ends an answer stays in it. */
  include_stop_str_in_output: maybe(z.boolean()),
  /** As vLLM has them: tokens that end an answer beside the model's own, whether those do, and before how many nothing ends it. */
  stop_token_ids: maybe(listOf(z.int().min(0), { most: 256 })),
  ignore_eos: maybe(z.boolean()),
  min_tokens: maybe(z.int().min(0)),
  /** As Qwen's own API has it: most tokens of reasoning. */
  thinking_budget: maybe(z.int().min(0)),
  /** Classifier-free guidance, and what the answer is to lead away from. */
  guidance_scale: maybe(z.number().min(0).max(100)),
  negative_prompt: maybe(z.string().min(1)),
  /** Ours: the experts backend that this request runs on. */
  experts: maybe(z.string()),
};

const fields = z.object(samplingFields);
export type SamplingFields = z.output<typeof fields>;

/** What a model says of how long answers may be, and of its tokens. */
export type ModelLimits = Pick<CausalLM, 'contextLength' | 'vocabSize' | 'generationDefaults'>;

/**
 * Options of `generate`. What a request does not say is as the model's generation_config.json has it, also the temperature.
 * @param choice of several answers, which the seed tells apart
 * @throws ApiError for ends and lengths that cannot be
 */
export function samplingOptions(
  given: Partial<SamplingFields>,
  maxTokens: number | undefined,
  settings: Settings,
  model: ModelLimits,
  choice = 0,
): Partial<CausalLMGenerateOptions> {
  const { temperature, top_p: topP, top_k: topK, min_p: minP, typical_p: typicalP, seed } = given;
  const filters = defined({ topP, minP, typicalP, topK: topK && Math.max(0, topK) });
  // Clients send these in any case, also to a model that draws only when it is told to: that is to stay as it is then.
  const isUndrawn = Object.keys(filters).length > 0 && model.generationDefaults.doSample !== true;
  return defined({
    // The temperature says whether tokens are drawn; the others say how, where they are.
    doSample: temperature === undefined ? (isUndrawn ? false : undefined) : temperature > 0,
    ...(temperature !== 0 && { temperature, ...filters }),
    presencePenalty: given.presence_penalty,
    frequencyPenalty: given.frequency_penalty,
    repetitionPenalty: given.repetition_penalty,
    logitBias: given.logit_bias,
    guidanceScale: given.guidance_scale,
    negativePrompt: given.negative_prompt,
    // Clients send negative ones too.
    seed: seed === undefined ? undefined : (Math.abs(seed) + choice) % Number.MAX_SAFE_INTEGER,
    ...lengthOptions(given.min_tokens, maxTokens, settings.maxTokens, model),
    eosTokenId: endsOf(given, model),
    maxTime: settings.maxTime,
    // Stops are found in the text of the answer, where reasoning does not count.
    stopStrings: [],
    expertsImplementation: given.experts,
  }) as Partial<CausalLMGenerateOptions>;
}

/** How long an answer has to and may be, by what is asked for and the most that is allowed. */
function lengthOptions(
  least: number | undefined,
  asked: number | undefined,
  most: number | undefined,
  model: ModelLimits,
) {
  const { maxNewTokens } = model.generationDefaults;
  const limits = [asked ?? maxNewTokens, most].filter((one) => one !== undefined);
  const limit = Math.min(...limits);
  if (least !== undefined && least > limit)
    throw badField(
      'min_tokens',
      `is ${least}, but this answer has at most ${limit} tokens; lower it, or raise that limit`,
    );
  const minNewTokens = least || undefined;
  if (limits.length === 0) return { minNewTokens, maxLength: model.contextLength };
  // What the file says holds by itself, and yields to other options of the call.
  const isFiles = asked === undefined && most === undefined;
  return { minNewTokens, ...(!isFiles && { maxNewTokens: limit }) };
}

/** The tokens that end an answer; undefined where a request leaves them to the model. */
function endsOf(
  { stop_token_ids: added = [], ignore_eos: goesOn = false }: Partial<SamplingFields>,
  { generationDefaults: { eosTokenId }, vocabSize }: ModelLimits,
): number[] | undefined {
  if (!goesOn && added.length === 0) return undefined;
  const unknown = added.findIndex((id) => id >= vocabSize);
  if (unknown !== -1)
    throw badField(
      `stop_token_ids.${unknown}`,
      `there is no token ${added[unknown]}; the model's go from 0 to ${vocabSize - 1}`,
    );
  const own = goesOn ? [] : [eosTokenId ?? []].flat();
  return [...own.filter((id) => id < vocabSize), ...added];
}

/** What a request says of texts that end the answer. */
export function stopsOf({
  stop,
  include_stop_str_in_output: keepsStop,
}: Partial<SamplingFields>): Pick<AnswerRequest, 'stops' | 'keepsStop'> {
  return { stops: stop === undefined ? undefined : [stop].flat().filter((text) => text !== ''), keepsStop };
}

/** Without members that are undefined. */
export function defined<T extends object>(object: T): Partial<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>;
}
