import { badField } from './api-error.ts';

/** Fields by name, and what to do instead of giving them. */
type ForeignFields = Readonly<Record<string, string>>;

/**
 * Refuses fields of other APIs, servers and times that would change the answer: whoever gives one is not to believe that it counts. Values that
 * ask for what is given anyway are let pass.
 * @throws ApiError that names the field, and what takes its place
 */
export function refuseForeign(body: Readonly<Record<string, unknown>>, fields: ForeignFields): void {
  for (const [name, instead] of Object.entries(fields))
    if (Object.hasOwn(body, name) && asksForMore(name, body[name]))
      throw badField(name, `is not taken here; ${instead}`);
}

/** Values at which a field asks for nothing more, where that is not what is false or empty. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  n: [1],
  best_of: [1],
  num_beams: [1],
  length_penalty: [1],
  repeat_penalty: [1],
  top_n_sigma: [0, -1],
  truncate_prompt_tokens: [-1],
  // 0 asks for the tokens of the prompt, and for no others beside them.
  prompt_logprobs: [false],
  skip_special_tokens: [true],
  include_reasoning: [true],
  separate_reasoning: [true],
  enable_thinking: [],
};

function asksForMore(name: string, value: unknown): boolean {
  if (value === null || value === undefined) return false;
  const neutral = Object.hasOwn(NEUTRAL, name) ? NEUTRAL[name] : undefined;
  if (neutral) return !neutral.includes(value);
  if (!value || (Array.isArray(value) && value.length === 0)) return false;
  return !(name === 'response_format' && (value as { type?: unknown }).type === 'text');
}

const FORMATS = [
  ...['guided_json', 'guided_regex', 'guided_choice', 'guided_grammar', 'structured_outputs'],
  ...['structural_tag', 'json_schema', 'grammar', 'regex', 'ebnf'],
];

const BEAMS = 'answers are drawn token by token. In a program, generate takes numBeams';
const CHOICE = 'give temperature, top_k, top_p, min_p, typical_p or a penalty';
const IDS = 'answers are told as texts; /tokenize gives the ids of one';
const REASONING = 'reasoning stands beside the text, where it can be passed over';

/** What other servers (vLLM, SGLang, llama.cpp, TGI) do to answers, and is not done here. */
const OF_OTHER_SERVERS: ForeignFields = {
  use_beam_search: BEAMS,
  num_beams: BEAMS,
  length_penalty: BEAMS,
  repeat_penalty: 'give repetition_penalty',
  no_repeat_ngram_size: CHOICE,
  mirostat: CHOICE,
  dynatemp_range: CHOICE,
  xtc_probability: CHOICE,
  dry_multiplier: CHOICE,
  top_n_sigma: CHOICE,
  allowed_token_ids: 'logit_bias of -100 keeps a token away',
  bad_words: 'logit_bias of -100 keeps a token away',
  logits_processors: 'a server runs no code of its clients. In a program, generate takes logitsProcessors',
  min_new_tokens: 'give min_tokens',
  truncate_prompt_tokens: 'prompts are read whole; /tokenize tells how long one is',
  prompt_logprobs: '/v1/completions gives them, with echo and logprobs',
  skip_special_tokens: 'texts have no special tokens; log-probabilities tell of every token',
  return_token_ids: IDS,
  return_tokens_as_token_ids: IDS,
  include_reasoning: REASONING,
  separate_reasoning: REASONING,
  thinking_token_budget: 'give thinking_budget',
  mm_processor_kwargs: 'pictures are read as the model says; send smaller ones',
};

/**
 * What no API here takes: older words for tools, what other servers call the format and the limit of an answer, and what they do to it.
 * @param format what this API calls it
 * @param limit the field of the most new tokens
 */
export function ofOtherApis(format: string, limit: string): ForeignFields {
  const formats = Object.fromEntries(FORMATS.map((name) => [name, `give ${format}`]));
  const limits = Object.fromEntries(['max_new_tokens', 'n_predict'].map((name) => [name, `give ${limit}`]));
  return {
    functions: 'give tools',
    function_call: 'give tool_choice',
    ...formats,
    ...limits,
    ...OF_OTHER_SERVERS,
  };
}

/** What goes on from a text alone, and is nothing that a conversation has. */
export const OF_COMPLETIONS: ForeignFields = {
  echo: '/v1/completions takes it',
  suffix: 'the models served here write forwards only',
  best_of: 'answers are not compared here. Ask for several, and choose',
};
