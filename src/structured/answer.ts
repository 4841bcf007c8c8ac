import { InputError, show } from '../errors.ts';
import { utf8 } from './characters.ts';
import { choice, literal, type Node, optional, repeat, sequence } from './grammar.ts';
import { OBJECT, SPACE, valueLiteral } from './json-text.ts';
import { PatternError } from './regex/parse.ts';
import { compileSchema } from './schema/compile.ts';
import { parametersNode } from './schema/parameters.ts';
import { GAP, upTo, wholeMatch, without } from './text.ts';

/** What the text of an answer must be. */
export type AnswerFormat =
  | { readonly type: 'text' }
  | { readonly type: 'json_object' }
  | { readonly type: 'json_schema'; readonly schema: unknown }
  | { readonly type: 'regex'; readonly pattern: string };

/** A function that the model may call. */
export interface CallableTool {
  readonly name: string;
  /** JSON schema of its arguments; undefined: it takes none. */
  readonly parameters: unknown;
  /** Whether arguments that cannot be enforced are an error. Else they may be any object then. */
  readonly isStrict: boolean;
  /** Where its parameters stand in what the caller gave, for messages. */
  readonly path: string;
}

/** How a model writes calls: what stands round each, and whether its arguments are JSON or tags. */
export interface CallStyle {
  readonly open: string;
  readonly close: string;
  readonly style: 'json' | 'xml';
}

/** How a model writes its reasoning, and how far the prompt has gone: into it, past it, or neither, where the model may begin. */
export interface ReasoningStyle {
  readonly open: string;
  readonly close: string;
  readonly start: 'inside' | 'before' | 'none';
}

export interface AnswerRules {
  readonly format: AnswerFormat;
  readonly tools: readonly CallableTool[];
  /** `auto`: as the model likes; `required`: at least one call, and no text. */
  readonly toolChoice: 'auto' | 'required';
  /** Most calls of one answer. */
  readonly maxCalls: number;
  readonly calls: CallStyle | undefined;
  readonly reasoning: ReasoningStyle | undefined;
}

/**
 * The grammar of an answer: free reasoning, then text in a format or calls of tools.
 *
 * @throws InputError for a schema that cannot be enforced, by its path
 */
export function answerGrammar(rules: AnswerRules): Node {
  const { reasoning } = rules;
  const body = bodyNode(rules);
  if (!reasoning || reasoning.start === 'none') return body;
  const rest = sequence(upTo(reasoning.close), GAP, body);
  return reasoning.start === 'inside' ? rest : choice(body, sequence(literal(reasoning.open), rest));
}

function bodyNode(rules: AnswerRules): Node {
  const { format, tools, calls, maxCalls, toolChoice } = rules;
  if (tools.length === 0 || !calls) return formatNode(format);
  const call = callNode(tools, calls);
  const further = repeat(sequence(GAP, literal(calls.open), call), 0, maxCalls - 1);
  if (toolChoice === 'required') return sequence(GAP, literal(calls.open), call, further);
  if (format.type !== 'text') return choice(formatNode(format), sequence(literal(calls.open), call, further));
  return sequence(repeat(sequence(upTo(calls.open), call), 0, maxCalls), without(calls.open));
}

/** Whether the rules leave anything to enforce. */
export function isFree({ format, tools, toolChoice }: AnswerRules): boolean {
  return format.type === 'text' && tools.length === 0 && toolChoice === 'auto';
}

function formatNode(format: AnswerFormat): Node {
  switch (format.type) {
    case 'text':
      return without('\0');
    case 'json_object':
      return OBJECT;
    case 'json_schema':
      return compileSchema(format.schema);
    case 'regex':
      try {
        return wholeMatch(format.pattern);
      } catch (error) {
        if (!(error instanceof PatternError)) throw error;
        throw new InputError(`The pattern ${show(format.pattern)} cannot be enforced: ${error.message}`);
      }
  }
}

/** A call behind its opening tag, with the closing one. */
function callNode(tools: readonly CallableTool[], { style, close }: CallStyle): Node {
  const end = sequence(GAP, literal(close));
  const each = tools.map((tool) => (style === 'json' ? jsonCall(tool) : xmlCall(tool)));
  return sequence(GAP, choice(...each), end);
}

/** Source: the chat template of Qwen3. */
function jsonCall(tool: CallableTool): Node {
  const member = (name: string, value: Node) =>
    sequence(literal(JSON.stringify(name)), SPACE, literal(':'), SPACE, value, SPACE);
  return sequence(
    literal('{'),
    SPACE,
    member('name', valueLiteral(tool.name)),
    literal(','),
    SPACE,
    member(
      'arguments',
      enforced(tool, (schema) => compileSchema(schema, tool.path), OBJECT),
    ),
    literal('}'),
  );
}

/** Source: the chat template of Qwen3-Coder. */
function xmlCall(tool: CallableTool): Node {
  const anyParameters = repeat(
    sequence(
      literal('<parameter='),
      repeat(utf8(NAME), 1, 64),
      literal('>\n'),
      upTo('\n</parameter>'),
      optional(literal('\n')),
    ),
    0,
  );
  const parameters = enforced(tool, (schema) => parametersNode(schema, tool.path), anyParameters);
  return sequence(literal(`<function=${tool.name}>`), literal('\n'), parameters, literal('</function>'));
}

const NAME = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
] as const;

const NO_PARAMETERS = { type: 'object', properties: {} };

function enforced(tool: CallableTool, compile: (schema: unknown) => Node, instead: Node): Node {
  try {
    return compile(tool.parameters ?? NO_PARAMETERS);
  } catch (error) {
    if (tool.isStrict || !(error instanceof InputError)) throw error;
    return instead;
  }
}
