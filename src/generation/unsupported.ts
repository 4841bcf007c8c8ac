const NO_DRAFT_MODEL = 'there are no draft models; promptLookupNumTokens guesses from the row itself';
const GUESSED = 'promptLookupNumTokens says how many tokens are guessed';
const POSITIONS = 'positions follow from inputIds and attentionMask';
const ENCODER = 'it belongs to models with an encoder';

/** Options of transformers' `generate` that there is nothing for here, in camelCase, and what to do instead. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  assistantConfidenceThreshold: NO_DRAFT_MODEL,
  assistantEarlyExit: NO_DRAFT_MODEL,
  assistantEnsembleWeight: NO_DRAFT_MODEL,
  assistantLookbehind: NO_DRAFT_MODEL,
  assistantModel: NO_DRAFT_MODEL,
  assistantTokenizer: NO_DRAFT_MODEL,
  bosTokenId: 'a prompt is given whole; the tokenizer puts in what belongs to its beginning',
  cacheConfig: 'cacheDtype of fromPretrained sets the type of the cache',
  cacheImplementation: 'there is one kind of cache; cacheDtype of fromPretrained sets its type',
  cachePosition: POSITIONS,
  compileConfig: 'model.compile() measures and records ahead',
  constraints: 'constraint says token by token what may come, prefixAllowedTokensFn by function',
  continuousBatchingConfig:
    'calls that run at once share their passes by themselves; maxCacheBytes of fromPretrained bounds what they hold',
  customGenerate: 'logitsProcessors and stoppingCriteria take functions of your own',
  decoderStartTokenId: ENCODER,
  disableCompile: 'nothing is compiled without model.compile()',
  diversityPenalty: 'there are no groups of beams; doSample with numReturnSequences gives different rows',
  dolaLayers: 'logits come from the last layer alone',
  encoderNoRepeatNgramSize: 'it belongs to models with an encoder; see noRepeatNgramSize',
  encoderOutputs: ENCODER,
  encoderRepetitionPenalty: 'it belongs to models with an encoder; see repetitionPenalty',
  forceWordsIds: 'constraint says token by token what may come',
  forcedBosTokenId: 'it belongs to models with an encoder; end the prompt with the token',
  forcedDecoderIds: 'it belongs to models with an encoder; end the prompt with the tokens',
  inputsEmbeds: 'a prompt is given as inputIds, prompt or messages',
  isAssistant: NO_DRAFT_MODEL,
  logitsProcessor: 'give a list of functions as logitsProcessors',
  logitsToKeep: 'generate keeps those of the last token; forward takes logitsToKeep',
  lowMemory: 'rows share the memory of the cache as they are',
  maxCacheLen: 'maxCacheLength of fromPretrained bounds the cache',
  negativePromptAttentionMask: 'rows of negativePromptIds have no padding and may differ in length',
  numAssistantTokens: GUESSED,
  numAssistantTokensSchedule: GUESSED,
  numBeamGroups: 'there are no groups of beams; doSample with numReturnSequences gives different rows',
  outputAttentions: 'attention keeps no weights; forward gives hidden states and router outputs',
  outputHiddenStates: 'forward gives them',
  outputLogits: 'logprobs gives log-probabilities, forward all logits',
  outputRouterLogits: 'returnRoutedExperts says which experts each token went to, forward gives the logits',
  outputScores: 'logprobs gives log-probabilities; a function in logitsProcessors sees the scores',
  pastKeyValues: 'pass what model.createCache() makes as cache',
  penaltyAlpha: 'there is no contrastive search',
  positionIds: POSITIONS,
  prefillChunkSize: 'long prompts are read in pieces by themselves',
  renormalizeLogits: 'probabilities are normalized when a token is drawn',
  returnDictInGenerate: 'the result is an object always',
  returnLegacyCache: 'model.createCache() makes a cache that the call fills',
  speculationType: NO_DRAFT_MODEL,
  syncedGpus: 'a model runs on one device',
  targetLookbehind: NO_DRAFT_MODEL,
  tokenHealing: 'end the prompt before the last word, or without its trailing space',
  tokenTypeIds:
    'text has one type of tokens; leave out what a tokenizer of transformers returned under this name',
  transformersVersion: 'it says who wrote a file, and nothing of how to generate',
  trustRemoteCode:
    'no code of a repo is run; logitsProcessors and stoppingCriteria take functions of your own',
  useCache: 'the cache is used always',
  useModelDefaults:
    'generation_config.json holds always, for what neither the call nor generationConfig sets',
  useMtp: 'draft layers are not used',
  watermarkingConfig: 'a function in logitsProcessors can mark the text',
};

/** Why there is no such option here, and what to do instead; undefined for a name that transformers does not have either. */
export function unsupportedReason(camelName: string): string | undefined {
  return Object.hasOwn(UNSUPPORTED, camelName) ? UNSUPPORTED[camelName] : undefined;
}
