import * as z from 'zod';
import { expected, InputError, show } from '../errors.ts';
import {
  type AnswerFormat,
  type AnswerRules,
  answerGrammar,
  type CallableTool,
  isFree,
} from '../structured/answer.ts';
import { Automaton } from '../structured/automaton.ts';
import { TokenGrammar } from '../structured/constraint.ts';
import { TokenTable } from '../structured/token-table.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ConstraintFactory } from './constraint.ts';

/** What the text of an answer has to be. Reasoning before it is free. */
export type ResponseFormat =
  | { type: 'text' }
  /** Any JSON object. */
  | { type: 'json_object' }
  /** JSON that is valid by a JSON schema, or a schema of zod. What cannot be enforced is an error that names its path. */
  | { type: 'json_schema'; schema: unknown }
  /** What a regular expression matches as a whole. */
  | { type: 'regex'; pattern: string };

/** Which of the `tools` the model calls: as it likes, none, at least one, or this one, once. */
export type ToolChoice = 'auto' | 'none' | 'required' | { name: string };

/** Options of `generate` that say what an answer may be. */
export interface AnswerOptions {
  responseFormat?: ResponseFormat | undefined;
  /**
   * Functions that the prompt offers, as for `applyChatTemplate`. Calls are held to their names and to the schemas of their arguments; one that
   * cannot be enforced is left free, unless the function is `strict`.
   */
  tools?: readonly unknown[] | undefined;
  /** Default `auto`. */
  toolChoice?: ToolChoice | undefined;
  /** Whether an answer may call more than once. Default true; one that is to call a named function never does. */
  parallelToolCalls?: boolean | undefined;
}

export const ANSWER_OPTIONS = [
  'responseFormat',
  'tools',
  'toolChoice',
  'parallelToolCalls',
] as const satisfies readonly (keyof AnswerOptions)[];

const MOST_CALLS = 128;
/** Tokens at the end of a prompt in which the model's turn is looked for. */
const TAIL = 4096;

/**
 * The constraint that holds rows to what the options ask for; undefined where they ask for nothing.
 *
 * @param prompts ids of each row, whose ends say whether the model is about to reason
 * @param endTokenIds end a row, where the answer may end
 * @throws InputError names the option, and the path in a schema, of what is malformed or cannot be enforced
 */
export function answerConstraint(
  options: AnswerOptions,
  tokenizer: Tokenizer | undefined,
  prompts: readonly (readonly number[])[],
  endTokenIds: readonly number[],
  vocabSize: number,
): ConstraintFactory | undefined {
  const given = ANSWER_OPTIONS.find((name) => options[name] !== undefined);
  if (given === undefined) return undefined;
  if (tokenizer === undefined)
    throw new InputError(`${given} needs the tokenizer: pass it as the option tokenizer`);
  const rules = rulesOf(options, tokenizer);
  if (isFree(rules)) return undefined;
  const table = tableOf(tokenizer, vocabSize);
  const grammars = new Map<string, TokenGrammar>();
  return (row) => {
    const { reasoning } = rules;
    const start = reasoning && startOf(tokenizer, prompts[row] ?? []);
    let grammar = grammars.get(start ?? '');
    if (!grammar) {
      const node = answerGrammar({
        ...rules,
        reasoning: reasoning && { ...reasoning, start: start ?? 'none' },
      });
      grammar = new TokenGrammar(new Automaton(node), table);
      grammars.set(start ?? '', grammar);
    }
    return grammar.start(endTokenIds);
  };
}

function rulesOf(options: AnswerOptions, tokenizer: Tokenizer): AnswerRules {
  const { reasoning, calls } = tokenizer.responseStyle;
  const format = formatOf(options.responseFormat);
  const tools = toolsOf(options.tools);
  const choice = options.toolChoice ?? 'auto';
  const chosen = chosenTools(choice, tools);
  if (chosen.length > 0 && !calls)
    throw new InputError(
      `tools: the response_template of the tokenizer says nothing of calls; leave tools out`,
    );
  const { parallelToolCalls: parallel } = options;
  if (parallel !== undefined && typeof parallel !== 'boolean')
    throw new InputError(expected('parallelToolCalls', parallel, 'true or false'));
  return {
    format,
    tools: chosen,
    toolChoice: choice === 'auto' || choice === 'none' ? 'auto' : 'required',
    maxCalls: parallel === false || typeof choice === 'object' ? 1 : MOST_CALLS,
    calls,
    // Tags that are no tokens of the tokenizer are none that its model writes.
    reasoning:
      reasoning && tokenizer.tokenToId(reasoning.open) !== undefined
        ? { ...reasoning, start: 'none' }
        : undefined,
  };
}

const FORMATS = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    schema: z.unknown().refine((value) => value !== undefined),
  }),
  z.strictObject({ type: z.literal('regex'), pattern: z.string() }),
]);

function formatOf(given: ResponseFormat | undefined): AnswerFormat {
  if (given === undefined) return { type: 'text' };
  const result = FORMATS.safeParse(given);
  if (!result.success)
    throw new InputError(
      expected(
        'responseFormat',
        given,
        '{ type: "text" }, { type: "json_object" }, { type: "json_schema", schema } or { type: "regex", pattern }',
      ),
    );
  const format = result.data;
  return format.type === 'json_schema'
    ? { type: 'json_schema', schema: jsonSchemaOf(format.schema) }
    : (format as AnswerFormat);
}

/** A JSON schema, of whatever it is written in. */
function jsonSchemaOf(schema: unknown): unknown {
  if (typeof schema !== 'object' || schema === null || !('_zod' in schema)) return schema;
  try {
    return z.toJSONSchema(schema as z.ZodType, { io: 'input' });
  } catch (error) {
    throw new InputError(
      `responseFormat: the schema of zod has no JSON schema: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

function toolsOf(tools: unknown): CallableTool[] {
  if (tools === undefined) return [];
  if (!Array.isArray(tools)) throw new InputError(expected('tools', tools, 'a list of functions'));
  return tools.map((tool: unknown, i) => {
    const wrapped = (tool as { function?: unknown } | null)?.function;
    const { name, parameters, strict } = (wrapped ?? tool ?? {}) as Record<string, unknown>;
    const where = wrapped === undefined ? `tools[${i}]` : `tools[${i}].function`;
    if (typeof name !== 'string' || name === '' || /[\n>]/.test(name))
      throw new InputError(expected(`${where}.name`, name, 'the name of a function'));
    return {
      name,
      parameters: parameters ?? undefined,
      isStrict: strict === true,
      path: `${where}.parameters`,
    };
  });
}

function chosenTools(choice: ToolChoice, tools: readonly CallableTool[]): readonly CallableTool[] {
  if (choice === 'none') return [];
  if (choice === 'auto') return tools;
  if (choice === 'required') {
    if (tools.length === 0) throw new InputError('toolChoice is "required", but there are no tools to call');
    return tools;
  }
  const name: unknown = (choice as { name?: unknown } | null)?.name;
  if (typeof name !== 'string')
    throw new InputError(expected('toolChoice', choice, '"auto", "none", "required" or { name }'));
  const named = tools.filter((tool) => tool.name === name);
  if (named.length > 0) return named;
  const names = tools.map((tool) => tool.name).join(', ');
  throw new InputError(
    `toolChoice names ${show(name)}, which is none of the tools: ${names || 'there are none'}`,
  );
}

/** Whether a model that goes on from a prompt is reasoning, may begin to, or will not. */
export function startOf(tokenizer: Tokenizer, prompt: readonly number[]): 'inside' | 'before' | 'none' {
  const text = tokenizer.decode(prompt.slice(-TAIL), { unknownIds: 'skip' });
  return tokenizer.responseParser({ prompt: text }).reasoning;
}

const tables = new WeakMap<Tokenizer, TokenTable>();

/** The tokens that are text; special ones are none, so that no string of an answer can hold the end of a turn. */
function tableOf(tokenizer: Tokenizer, vocabSize: number): TokenTable {
  let table = tables.get(tokenizer);
  if (!table) {
    const bytesOf = (id: number) => (tokenizer.isSpecial(id) ? undefined : tokenizer.tokenBytes(id));
    const idsOf = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
    table = new TokenTable({ size: vocabSize, bytesOf, idsOf });
    tables.set(tokenizer, table);
  }
  return table;
}
