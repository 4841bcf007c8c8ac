/** The fields of requests, by the options of a model that they become: for messages, which name options. */
const FIELDS: Readonly<Record<string, string>> = {
  minNewTokens: 'min_tokens',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  typicalP: 'typical_p',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  repetitionPenalty: 'repetition_penalty',
  logitBias: 'logit_bias',
  guidanceScale: 'guidance_scale',
  negativePrompt: 'negative_prompt',
  thinkingBudget: 'thinking_budget',
  responseFormat: 'response_format',
  toolChoice: 'tool_choice',
  parallelToolCalls: 'parallel_tool_calls',
  expertsImplementation: 'experts',
};

/** Not within what a client wrote, which stands in quotes. */
const OPTION = new RegExp(`(?<!["\\w])(?:${Object.keys(FIELDS).join('|')})(?!["\\w])`, 'g');
/** The row of a batch that messages begin with: a request has one. */
const ROW = /^(\w+): row 0(?=[ ,])/;

/** A message of the model in the words of a request, and the field that it is about: the first that it names. */
export function inFields(message: string): { readonly message: string; readonly param: string | null } {
  let param: string | null = null;
  const told = message
    .replace(/^generate: /, '')
    .replace(ROW, '$1')
    .replace(/^inputIds\b/, 'The prompt')
    .replace(OPTION, (option) => {
      const field = FIELDS[option] as string;
      param ??= field;
      return field;
    });
  return { message: told, param };
}
