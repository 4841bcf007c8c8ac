import * as z from 'zod';
import { OF_COMPLETIONS, ofOtherApis } from '../foreign-fields.ts';
import { listOf, maybe } from '../request.ts';
import { samplingFields } from '../sampling.ts';

const block = z.looseObject({ type: z.string() });
const content = z.union([z.string(), listOf(block)]);

const shared = {
  model: maybe(z.string()),
  system: maybe(content),
  messages: listOf(z.looseObject({ role: z.enum(['user', 'assistant', 'system']), content }), { least: 1 }),
  tools: maybe(
    listOf(
      z.looseObject({
        name: z.string().min(1),
        description: maybe(z.string()),
        input_schema: maybe(z.record(z.string(), z.unknown())),
      }),
      { most: 512 },
    ),
  ),
  tool_choice: maybe(
    z.looseObject({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: maybe(z.string()),
      disable_parallel_tool_use: maybe(z.boolean()),
    }),
  ),
  thinking: maybe(
    z.looseObject({
      type: z.enum(['enabled', 'disabled', 'adaptive']),
      budget_tokens: maybe(z.int().min(0)),
    }),
  ),
  chat_template_kwargs: maybe(z.record(z.string(), z.unknown())),
};

const outputFormat = z.looseObject({
  type: z.literal('json_schema'),
  schema: z.record(z.string(), z.unknown()),
});

/** A request of `/v1/messages/count_tokens`. */
export const countSchema = z.looseObject(shared);

/** A request of `/v1/messages`. */
export const messageSchema = z.looseObject({
  ...samplingFields,
  ...shared,
  max_tokens: z.int().min(1),
  stop_sequences: maybe(listOf(z.string(), { most: 16 })),
  temperature: maybe(z.number().min(0).max(1)),
  continue_final_message: maybe(z.boolean()),
  output_config: maybe(z.looseObject({ format: maybe(outputFormat) })),
  /** As it was called before `output_config`. */
  output_format: maybe(outputFormat),
  stream: maybe(z.boolean()),
});

const BY_CHAT = '/v1/chat/completions takes it';
/** What of other APIs a request may not have. */
export const FOREIGN = {
  ...ofOtherApis('output_config.format', 'max_tokens'),
  ...OF_COMPLETIONS,
  enable_thinking: 'give thinking',
  mcp_servers: 'this server calls no others; give tools',
  response_format: 'give output_config.format',
  n: 'a message is one answer. /v1/chat/completions gives several',
  reasoning_effort: 'give thinking',
  logprobs: BY_CHAT,
  top_logprobs: BY_CHAT,
  return_routed_experts: BY_CHAT,
};

export type CountRequest = z.output<typeof countSchema>;
export type MessageRequest = z.output<typeof messageSchema>;
export type Block = z.output<typeof block>;
