import * as z from 'zod';
import { show, TokenizerError } from '../../errors.ts';

/** How a model writes its answers: what stands round reasoning and calls, and what ends a turn. */
export interface ResponseStyle {
  /** What opens the model's turn in a prompt; the last of these is where it starts. */
  readonly anchors: readonly string[];
  readonly reasoning: Tags | undefined;
  readonly calls: (Tags & { readonly style: 'json' | 'xml' }) | undefined;
  readonly ends: readonly string[];
}

export interface Tags {
  readonly open: string;
  readonly close: string;
}

/** Qwen2 to Qwen3, Qwen3-VL, Qwen3-Next: calls are JSON. Source: transformers `cli/serving/utils.py`, `_RESPONSE_TEMPLATE_FALLBACKS`. */
export const QWEN_JSON: ResponseStyle = {
  anchors: ['<|im_start|>assistant\n'],
  reasoning: { open: '<think>', close: '</think>' },
  calls: { open: '<tool_call>', close: '</tool_call>', style: 'json' },
  ends: ['<|im_end|>', '<|endoftext|>'],
};

/** Qwen3-Coder and from Qwen3.5 on: calls are tags. Source: as above. */
export const QWEN_XML: ResponseStyle = {
  ...QWEN_JSON,
  calls: { open: '<tool_call>', close: '</tool_call>', style: 'xml' },
};

/** The style of a tokenizer that does not say it itself: by how its chat template writes calls. */
export function builtInStyle(chatTemplate: string | undefined): ResponseStyle {
  return chatTemplate?.includes('<function=') ? QWEN_XML : QWEN_JSON;
}

const anchorText = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]);
const field = z.looseObject({
  open: anchorText.optional(),
  open_pattern: z.string().optional(),
  close: anchorText.optional(),
  close_pattern: z.string().optional(),
  content: z.string().optional(),
});

/** `response_template` of tokenizer_config.json. Source: transformers `utils/chat_parsing/response_templates.py`. */
export const responseTemplateSchema = z.looseObject({
  version: z.literal(1).optional(),
  start_anchor: anchorText.optional(),
  start_anchor_pattern: z.string().optional(),
  fields: z.record(z.string(), field),
});

type Field = z.output<typeof field>;

/**
 * What a repo says of its model's answers. Followed are the fields `thinking`, `tool_calls` (as JSON, or as Qwen's tags) and `content`, with
 * literal texts round them; of patterns, those that are such texts with white space beside them.
 *
 * @param file for messages
 * @throws TokenizerError for what is written otherwise, by field
 */
export function styleOf(template: z.output<typeof responseTemplateSchema>, file: string): ResponseStyle {
  const where = `${file}: response_template`;
  const { thinking, tool_calls: calls, content, ...others } = template.fields;
  const other = Object.keys(others)[0];
  if (other !== undefined)
    throw new TokenizerError(
      `${where} has the field ${show(other)}; known fields are thinking, tool_calls and content`,
    );
  const anchors = literals(template.start_anchor, template.start_anchor_pattern, `${where}: start_anchor`);
  return {
    anchors,
    reasoning: thinking && tags(thinking, `${where}: thinking`),
    calls: calls && {
      ...tags(calls, `${where}: tool_calls`),
      style: callStyle(calls, `${where}: tool_calls`),
    },
    ends:
      content?.close === undefined && content?.close_pattern === undefined
        ? []
        : literals(content.close, content.close_pattern, `${where}: content`),
  };
}

function tags(field: Field, where: string): Tags {
  const [open] = literals(field.open, field.open_pattern, where);
  const close = literals(field.close, field.close_pattern, where).at(-1);
  return { open: open as string, close: close as string };
}

function callStyle({ content }: Field, where: string): 'json' | 'xml' {
  if (content === 'json') return 'json';
  if (content === 'xml-inline') return 'xml';
  throw new TokenizerError(`${where} has the content ${show(content)}; json and xml-inline are followed`);
}

/** The texts of an anchor; of a pattern, those between white space, alternatives and groups. */
function literals(text: string | string[] | undefined, pattern: string | undefined, where: string): string[] {
  if (text !== undefined) return [text].flat();
  const plain = pattern
    // What captures a name is read by whoever reads the call.
    ?.replace(/<function=\(\?P<name>[^)]*\)>/, '')
    .replaceAll(/<\/function>(?=\\s\*)/g, '')
    .split(/\\s\*|\(\?:|[|)](?<!\\[|])/)
    .map((part) => part.replaceAll(/\\(?=[^A-Za-z0-9])/g, ''))
    .filter((part) => part !== '');
  if (plain && plain.length > 0 && !plain.some((part) => /[\\[\]*+?^$(){}]/.test(part))) return plain;
  throw new TokenizerError(
    `${where} opens or closes with ${show(pattern)}; texts are followed, and \\s* beside them`,
  );
}
