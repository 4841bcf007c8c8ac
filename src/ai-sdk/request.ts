import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider';
import { InputError } from '../errors.ts';
import type { AnswerOptions } from '../index.ts';
import type { AnswerRequest } from '../server/answer-request.ts';
import { settingsOf } from '../server/options.ts';
import { defined, type ModelLimits, samplingOptions } from '../server/sampling.ts';
import { messagesOf } from './prompt.ts';

/** The name under which `providerOptions` are ours. */
export const PROVIDER = 'switchyard';

/** Options of `generate` that a call of the AI SDK says in words of its own. */
const OTHERWISE: Readonly<Record<string, string>> = {
  inputIds: 'prompt or messages',
  prompt: 'prompt or messages',
  messages: 'prompt or messages',
  signal: 'abortSignal',
  stopStrings: 'stopSequences',
  maxNewTokens: 'maxOutputTokens',
  streamer: 'streamText',
  stoppingCriteria: 'abortSignal',
  responseFormat: 'output, or generateObject',
  tools: 'tools',
  toolChoice: 'toolChoice',
  tokenizer: 'the tokenizer of the model',
  numReturnSequences: 'several calls',
  numBeams: 'sampling',
};

/** Without limits: who calls is the program that holds the model. */
const SETTINGS = settingsOf({});

/**
 * What a call of the AI SDK asks of a model, and what of it has no effect.
 * @throws InputError for options of `generate` that are none, or have names of the AI SDK's
 */
export function requestOf(
  call: LanguageModelV3CallOptions,
  limits: ModelLimits,
): { request: AnswerRequest; warnings: SharedV3Warning[] } {
  const own = call.providerOptions?.[PROVIDER] ?? {};
  const stray = Object.keys(own).find((name) => name in OTHERWISE);
  if (stray !== undefined)
    throw new InputError(`providerOptions.${PROVIDER}.${stray}: use ${OTHERWISE[stray]} instead`);
  const { templateArguments = {}, continueFinalMessage = false, ...options } = own;
  const warnings: SharedV3Warning[] = [];
  const tools = toolsOf(call, warnings);
  return {
    request: {
      prompt: {
        messages: messagesOf(call.prompt),
        continueFinalMessage: continueFinalMessage as boolean,
        templateArguments: templateArguments as Readonly<Record<string, unknown>>,
      },
      tools,
      stops: call.stopSequences,
      options: {
        ...samplingOptions(samplingOf(call), call.maxOutputTokens, SETTINGS, limits),
        ...defined({
          responseFormat: formatOf(call.responseFormat),
          toolChoice: tools && choiceOf(call.toolChoice),
        }),
        ...options,
      },
    },
    warnings,
  };
}

function samplingOf(call: LanguageModelV3CallOptions) {
  return {
    temperature: call.temperature,
    top_p: call.topP,
    top_k: call.topK,
    presence_penalty: call.presencePenalty,
    frequency_penalty: call.frequencyPenalty,
    seed: call.seed,
  };
}

function formatOf(format: LanguageModelV3CallOptions['responseFormat']): AnswerOptions['responseFormat'] {
  if (format?.type !== 'json') return undefined;
  return format.schema === undefined
    ? { type: 'json_object' }
    : { type: 'json_schema', schema: format.schema };
}

/** Functions, as chat templates know them. */
function toolsOf({ tools = [] }: LanguageModelV3CallOptions, warnings: SharedV3Warning[]) {
  const functions = tools.flatMap((tool) => {
    if (tool.type === 'function') {
      const { name, description, inputSchema: parameters, strict } = tool;
      return [{ type: 'function', function: defined({ name, description, parameters, strict }) }];
    }
    warnings.push({ type: 'unsupported', feature: `provider tool ${tool.id}` });
    return [];
  });
  return functions.length > 0 ? functions : undefined;
}

function choiceOf(choice: LanguageModelV3CallOptions['toolChoice']): AnswerOptions['toolChoice'] {
  return choice?.type === 'tool' ? { name: choice.toolName } : choice?.type;
}
