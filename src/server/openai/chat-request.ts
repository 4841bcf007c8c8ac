import type { AnswerOptions } from '../../index.ts';
import type { AnswerRequest } from '../answer-request.ts';
import { badField } from '../api-error.ts';
import { conversationOf, templateArguments } from '../conversation.ts';
import { refuseForeign } from '../foreign-fields.ts';
import type { Settings } from '../options.ts';
import { defined, type ModelLimits, samplingOptions, stopsOf } from '../sampling.ts';
import { type ChatRequest, FOREIGN } from './chat-fields.ts';

/**
 * What a request of `/v1/chat/completions` asks of a model.
 * @param choice which of its `n` answers
 * @throws ApiError for what cannot be done
 */
export function chatAnswer(
  body: ChatRequest,
  settings: Settings,
  limits: ModelLimits,
  choice: number,
): AnswerRequest {
  const { tools, logprobs, top_logprobs: top } = body;
  refuseForeign(body, FOREIGN);
  const { continue_final_message: goesOn = false, add_generation_prompt: opens = !goesOn } = body;
  if (opens === goesOn)
    throw badField(
      'add_generation_prompt',
      `is ${opens}, but a conversation is ${goesOn ? 'continued' : 'answered'} here; leave it out, or give continue_final_message: ${opens ? 'false' : 'true'}`,
    );
  if (top !== undefined && !logprobs) throw badField('top_logprobs', 'needs logprobs: true');
  const maxTokens = body.max_completion_tokens ?? body.max_tokens;
  return {
    prompt: {
      messages: conversationOf(body.messages, settings.pictureHosts),
      continueFinalMessage: goesOn,
      templateArguments: {
        ...thinking(body.reasoning_effort),
        ...defined({ enable_thinking: body.enable_thinking }),
        ...templateArguments(body.chat_template_kwargs),
      },
    },
    tools,
    ...stopsOf(body),
    thinkingBudget: body.thinking_budget,
    options: {
      ...samplingOptions(body, maxTokens, settings, limits, choice),
      ...defined({
        ...answerOptions(body),
        parallelToolCalls: body.parallel_tool_calls,
        logprobs: logprobs ? (top ?? 0) : undefined,
        returnRoutedExperts: body.return_routed_experts,
      }),
    },
  };
}

function answerOptions({ response_format: format, tool_choice: choice, tools }: ChatRequest): AnswerOptions {
  return {
    responseFormat:
      format?.type === 'json_schema'
        ? { type: 'json_schema', schema: format.json_schema.schema }
        : (format as { type: 'text' } | undefined),
    // Without tools there is nothing to choose from.
    toolChoice:
      typeof choice === 'object'
        ? { name: choice.function.name }
        : tools || choice === 'required'
          ? choice
          : undefined,
  };
}

/** Qwen's templates know reasoning as on or off. */
export function thinking(effort: string | undefined): { enable_thinking?: boolean } {
  return effort === undefined ? {} : { enable_thinking: !['none', 'minimal'].includes(effort) };
}
