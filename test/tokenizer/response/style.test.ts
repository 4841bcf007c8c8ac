import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AutoTokenizer, TokenizerError } from '../../../src/index.ts';
import {
  QWEN_JSON,
  QWEN_XML,
  responseTemplateSchema,
  styleOf,
} from '../../../src/tokenizer/response/style.ts';
import { linkedModel } from '../../helpers/checkpoints.ts';

const DEMO = join(import.meta.dirname, '../../../configs/demo-model');

/** As transformers has it for models whose repos say nothing. Source: `cli/serving/utils.py`, `_RESPONSE_TEMPLATE_FALLBACKS`. */
const thinking = { open: '<think>', close: '</think>', content: 'text' };
const JSON_TEMPLATE = {
  defaults: { role: 'assistant' },
  start_anchor: '<|im_start|>assistant\n',
  fields: {
    thinking,
    tool_calls: {
      open_pattern: '\\s*<tool_call>',
      close: '</tool_call>',
      repeats: true,
      content: 'json',
      transform: { type: 'function', function: '{content}' },
    },
    content: { close_pattern: '\\s*(?:<\\|im_end\\|>|<\\|endoftext\\|>)', content: 'text' },
  },
};
const XML_TEMPLATE = {
  ...JSON_TEMPLATE,
  fields: {
    ...JSON_TEMPLATE.fields,
    tool_calls: {
      open_pattern: '\\s*<tool_call>\\s*<function=(?P<name>[^>\\n]+)>',
      close_pattern: '</function>\\s*</tool_call>',
      repeats: true,
      content: 'xml-inline',
      content_args: { tag_pattern: '<parameter=(?P<key>[^>\\n]+)>\\s*(?P<value>.*?)\\s*</parameter>' },
      transform: { type: 'function', function: { name: '{name}', arguments: '{content}' } },
    },
  },
};

describe('a response_template', () => {
  const style = (template: object) =>
    styleOf(responseTemplateSchema.parse(template), 'tokenizer_config.json');

  it('of transformers for Qwen says what is built in', () => {
    expect(style(JSON_TEMPLATE)).toEqual(QWEN_JSON);
    expect(style(XML_TEMPLATE)).toEqual(QWEN_XML);
  });

  it('that is written in words we do not follow is refused by its field', () => {
    const fields = (changes: object) => ({
      ...JSON_TEMPLATE,
      fields: { ...JSON_TEMPLATE.fields, ...changes },
    });
    expect(() => style(fields({ thinking: { open_pattern: '<t+>', close: '</t>' } }))).toThrow(
      'thinking opens or closes with "<t+>"',
    );
    expect(() => style(fields({ plan: { open: '<p>', close: '</p>' } }))).toThrow('the field "plan"');
    expect(() => style(fields({ tool_calls: { open: '<c>', close: '</c>', content: 'kv-lines' } }))).toThrow(
      'the content "kv-lines"',
    );
  });
});

describe('a tokenizer', () => {
  const withConfig = async (config: object, template: string) => {
    const { folder, remove } = linkedModel(DEMO, {
      'tokenizer_config.json': config,
      'chat_template.jinja': undefined,
    });
    writeFileSync(join(folder, 'chat_template.jinja'), template);
    try {
      return await AutoTokenizer.fromPretrained(folder);
    } finally {
      remove();
    }
  };
  const CALL = 'Well.<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>';
  const parsed = {
    role: 'assistant',
    content: 'Well.',
    tool_calls: [{ type: 'function', function: { name: 'f', arguments: { a: '1' } } }],
  };

  it('reads calls as its chat template writes them', async () => {
    const tokenizer = await withConfig({}, "{{ '<tool_call>\\n<function=' }}");
    expect(tokenizer.parseResponse(CALL)).toEqual(parsed);
  });

  it('reads answers as its repo says', async () => {
    const fields = { ...XML_TEMPLATE.fields, thinking: { open: '[T]', close: '[/T]' } };
    const tokenizer = await withConfig({ response_template: { ...XML_TEMPLATE, fields } }, 'x');
    expect(tokenizer.parseResponse(`[T]so[/T]${CALL}`)).toEqual({ ...parsed, reasoning_content: 'so' });
    // Of a prompt that is not known, reasoning that only ends was begun there.
    expect(tokenizer.parseResponse(`so[/T]${CALL}`)).toEqual({ ...parsed, reasoning_content: 'so' });
  });

  it('loads with a response_template that is not followed, and says so when it is used', async () => {
    const tokenizer = await withConfig({ response_template: { fields: [] } }, 'x');
    expect(tokenizer.encode('a')).toHaveLength(1);
    expect(() => tokenizer.parseResponse('a')).toThrow(TokenizerError);
  });

  it('takes ids as well as text, and checks its options', async () => {
    const tokenizer = await withConfig({}, 'x');
    expect(tokenizer.parseResponse(tokenizer.encode(' yes')).content).toBe('yes');
    expect(() => tokenizer.parseResponse('', { prompt: 3 as never })).toThrow('parseResponse: prompt is 3');
    expect(() => tokenizer.parseResponse('', { tool: [] } as never)).toThrow('tools');
    expect(() => tokenizer.parseResponse(5 as never)).toThrow(
      'parseResponse: the response is 5; expected a text or a list of token ids',
    );
  });
});
