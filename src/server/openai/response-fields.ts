import * as z from 'zod';
import { OF_COMPLETIONS, ofOtherApis } from '../foreign-fields.ts';
import { listOf, maybe } from '../request.ts';
import { samplingFields } from '../sampling.ts';

const item = z.looseObject({
  type: maybe(z.string()),
  role: maybe(z.enum(['user', 'assistant', 'system', 'developer'])),
});

/** A request of `/v1/responses`. */
export const responseSchema = z.looseObject({
  ...samplingFields,
  model: maybe(z.string()),
  input: z.union([z.string(), listOf(item)]),
  instructions: maybe(z.string()),
  tools: maybe(listOf(z.looseObject({ type: z.string() }), { most: 512 })),
  tool_choice: maybe(
    z.union([
      z.enum(['auto', 'none', 'required']),
      z.looseObject({ type: z.string(), name: maybe(z.string()) }),
    ]),
  ),
  parallel_tool_calls: maybe(z.boolean()),
  text: maybe(
    z.looseObject({ format: maybe(z.looseObject({ type: z.string(), schema: z.unknown().optional() })) }),
  ),
  reasoning: maybe(z.looseObject({ effort: maybe(z.string()) })),
  max_output_tokens: maybe(z.int().min(1)),
  /** Only log-probabilities change what is answered; what else there is belongs to tools of OpenAI's own servers. */
  include: maybe(listOf(z.string())),
  top_logprobs: maybe(z.int().min(0).max(20)),
  metadata: maybe(z.record(z.string(), z.unknown())),
  stream: maybe(z.boolean()),
  chat_template_kwargs: maybe(z.record(z.string(), z.unknown())),
  continue_final_message: maybe(z.boolean()),
  previous_response_id: maybe(z.string()),
  conversation: z.unknown().optional(),
  background: maybe(z.boolean()),
});
/** What `include` asks for where log-probabilities are wanted. */
export const LOGPROBS = 'message.output_text.logprobs';

/** What of other APIs a request may not have. */
export const FOREIGN = {
  ...ofOtherApis('text.format', 'max_output_tokens'),
  ...OF_COMPLETIONS,
  enable_thinking: 'give reasoning.effort',
  response_format: 'give text.format',
  n: 'a response is one answer. /v1/chat/completions gives several',
  max_tokens: 'give max_output_tokens',
  max_completion_tokens: 'give max_output_tokens',
  reasoning_effort: 'give reasoning.effort',
  logprobs: `give include: ["${LOGPROBS}"]`,
  return_routed_experts: '/v1/chat/completions takes it',
  prompt: 'this server keeps no prompts. Send the text as instructions and input',
};

export type ResponseRequest = z.output<typeof responseSchema>;
export type ResponseItem = z.output<typeof item>;
