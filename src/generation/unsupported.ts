/** Options of transformers' `generate` that there is nothing for here, in camelCase, and what to do instead. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  assistantModel: 'there are no draft models; promptLookupNumTokens guesses from the row itself',
  assistantTokenizer: 'there are no draft models; promptLookupNumTokens guesses from the row itself',
  assistantEarlyExit: 'there are no draft models; promptLookupNumTokens guesses from the row itself',
  numAssistantTokens: 'promptLookupNumTokens says how many tokens are guessed',
  bosTokenId: 'a prompt is given whole; the tokenizer puts in what belongs to its beginning',
  cacheConfig: 'cacheDtype of fromPretrained sets the type of the cache',
  cacheImplementation: 'there is one kind of cache; cacheDtype of fromPretrained sets its type',
  compileConfig: 'model.compile() measures and records ahead',
  constraints: 'constraint says token by token what may come, prefixAllowedTokensFn by function',
  customGenerate: 'logitsProcessors and stoppingCriteria take functions of your own',
  decoderStartTokenId: 'it belongs to models with an encoder',
  disableCompile: 'nothing is compiled without model.compile()',
  diversityPenalty: 'there are no groups of beams; doSample with numReturnSequences gives different rows',
  dolaLayers: 'logits come from the last layer alone',
  encoderNoRepeatNgramSize: 'it belongs to models with an encoder; see noRepeatNgramSize',
  encoderRepetitionPenalty: 'it belongs to models with an encoder; see repetitionPenalty',
  forceWordsIds: 'constraint says token by token what may come',
  forcedBosTokenId: 'it belongs to models with an encoder; end the prompt with the token',
  logitsProcessor: 'give a list of functions as logitsProcessors',
  lowMemory: 'rows share the memory of the cache as they are',
  maxCacheLen: 'maxCacheLength of fromPretrained bounds the cache',
  numBeamGroups: 'there are no groups of beams; doSample with numReturnSequences gives different rows',
  outputAttentions: 'attention keeps no weights; forward gives hidden states and router outputs',
  outputHiddenStates: 'forward gives them',
  outputLogits: 'logprobs gives log-probabilities, forward all logits',
  outputScores: 'logprobs gives log-probabilities; a function in logitsProcessors sees the scores',
  pastKeyValues: 'pass what model.createCache() makes as cache',
  penaltyAlpha: 'there is no contrastive search',
  renormalizeLogits: 'probabilities are normalized when a token is drawn',
  returnDictInGenerate: 'the result is an object always',
  syncedGpus: 'a model runs on one device',
  tokenHealing: 'end the prompt before the last word, or without its trailing space',
  useCache: 'the cache is used always',
  useMtp: 'draft layers are not used',
  watermarkingConfig: 'a function in logitsProcessors can mark the text',
};

/** Why there is no such option here, and what to do instead; undefined for a name that transformers does not have either. */
export function unsupportedReason(camelName: string): string | undefined {
  return Object.hasOwn(UNSUPPORTED, camelName) ? UNSUPPORTED[camelName] : undefined;
}
