import * as z from 'zod';
import { OF_COMPLETIONS, ofOtherApis } from '../foreign-fields.ts';
import { listOf, maybe } from '../request.ts';
import { samplingFields } from '../sampling.ts';

const part = z.looseObject({ type: z.string() });
const content = z.union([z.string(), listOf(part)]);

const toolCall = z.looseObject({
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.looseObject({
    name: z.string(),
    arguments: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
  }),
});

const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: maybe(content),
  name: maybe(z.string()),
  tool_calls: maybe(listOf(toolCall)),
  tool_call_id: maybe(z.string()),
  reasoning_content: maybe(z.string()),
  reasoning: maybe(z.unknown()),
});

const tool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({
    name: z.string().min(1),
    description: maybe(z.string()),
    parameters: maybe(z.record(z.string(), z.unknown())),
    strict: maybe(z.boolean()),
  }),
});

const toolChoice = z.union([
  z.enum(['auto', 'none', 'required']),
  z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) }),
]);

const responseFormat = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text') }),
  z.looseObject({ type: z.literal('json_object') }),
  z.looseObject({
    type: z.literal('json_schema'),
    json_schema: z.looseObject({ name: z.string().optional(), schema: z.record(z.string(), z.unknown()) }),
  }),
]);

/** A request of `/v1/chat/completions`. */
export const chatSchema = z.looseObject({
  ...samplingFields,
  model: maybe(z.string()),
  messages: listOf(message, { least: 1 }),
  tools: maybe(listOf(tool, { most: 512 })),
  tool_choice: maybe(toolChoice),
  parallel_tool_calls: maybe(z.boolean()),
  response_format: maybe(responseFormat),
  max_tokens: maybe(z.int().min(1)),
  max_completion_tokens: maybe(z.int().min(1)),
  n: maybe(z.int().min(1)),
  stream: maybe(z.boolean()),
  stream_options: maybe(z.looseObject({ include_usage: maybe(z.boolean()) })),
  logprobs: maybe(z.boolean()),
  top_logprobs: maybe(z.int().min(0).max(20)),
  reasoning_effort: maybe(z.string()),
  chat_template_kwargs: maybe(z.record(z.string(), z.unknown())),
  continue_final_message: maybe(z.boolean()),
  /** As vLLM has it, where it only repeats what `continue_final_message` says. */
  add_generation_prompt: maybe(z.boolean()),
  /** As Qwen's own API has it. */
  enable_thinking: maybe(z.boolean()),
  /** Ours and SGLang's: which experts each token went to. */
  return_routed_experts: maybe(z.boolean()),
});
/** What of other APIs a request may not have. */
export const FOREIGN = {
  ...ofOtherApis('response_format', 'max_completion_tokens'),
  ...OF_COMPLETIONS,
  n_probs: 'give logprobs with top_logprobs',
  reasoning: 'give reasoning_effort',
  thinking: 'give reasoning_effort',
  system: 'give a message of the role system',
  chat_template: "the model's own is used; give chat_template_kwargs",
  documents: 'put them into the messages',
  audio: 'answers are texts',
  web_search_options: 'answers come from the model alone; give tools',
  max_output_tokens: 'give max_completion_tokens',
  stop_sequences: 'give stop',
};

export type ChatRequest = z.output<typeof chatSchema>;
