import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TokenizerError } from '../../../src/errors.ts';
import { ChatTemplate } from '../../../src/tokenizer/chat-template.ts';

interface Snippets {
  variables: Record<string, unknown>;
  /** Template and text; without a text, transformers raises an error. */
  cases: [template: string, text?: string][];
}
interface Conversations {
  template: string;
  cases: { variables: Record<string, unknown>; text?: string }[];
}

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/jinja/${name}`, import.meta.url), 'utf8'));
const snippets: Snippets[] = read('snippets.json');
const templates: Conversations[] = read('templates.json');

/** Templates with what transformers 5.18 (Jinja 3.1.6) renders them to. */
describe('templates render as in transformers', () => {
  it.each(snippets.flatMap(({ variables, cases }) => cases.map((one) => ({ variables, one }))))(
    '$one.0',
    ({ variables, one: [template, text] }) => {
      const render = () => new ChatTemplate(template, 'test').render(variables);
      if (text === undefined) expect(render).toThrow(TokenizerError);
      else expect(render()).toBe(text);
    },
  );

  it.each(templates.map((one, i) => ({ i, ...one })))('published template $i', ({ template, cases }) => {
    expect(cases.length).toBeGreaterThan(15);
    const compiled = new ChatTemplate(template, 'test');
    for (const { variables, text } of cases) {
      if (text === undefined) expect(() => compiled.render(variables)).toThrow(TokenizerError);
      else expect(compiled.render(variables)).toBe(text);
    }
  });
});

it('takes any line end as one', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    const template = ['{% if true %}', 'a', '{% endif %}', 'b', ''].join(end);
    expect(new ChatTemplate(template, 'test').render({})).toBe('a\nb');
  }
});

it('prints numbers of the data as Python reads them from JSON, but 1.0 as 1', () => {
  expect(new ChatTemplate('{{ x }}', 'test').render({ x: [1, 1.5, 1e16, 1e-7, -0] })).toBe(
    '[1, 1.5, 10000000000000000, 1e-07, -0.0]',
  );
});

it('names the line of a mistake', () => {
  const render = () => new ChatTemplate('a\n\n{% if %}', 'x.jinja').render({});
  expect(render).toThrow(/x\.jinja cannot render this conversation: line 3: /);
});
