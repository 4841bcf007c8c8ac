import * as z from 'zod';
import { listOf, maybe } from '../request.ts';
import { samplingFields } from '../sampling.ts';

const item = z.looseObject({ type: maybe(z.string()), role: maybe(z.string()) });

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
  stream: maybe(z.boolean()),
  chat_template_kwargs: maybe(z.record(z.string(), z.unknown())),
  continue_final_message: maybe(z.boolean()),
  previous_response_id: maybe(z.string()),
  conversation: z.unknown().optional(),
  background: maybe(z.boolean()),
});
export type ResponseRequest = z.output<typeof responseSchema>;
export type ResponseItem = z.output<typeof item>;
