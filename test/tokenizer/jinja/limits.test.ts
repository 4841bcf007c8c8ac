import { describe, expect, it } from 'vitest';
import { TokenizerError } from '../../../src/errors.ts';
import { ChatTemplate } from '../../../src/tokenizer/chat-template.ts';

/** A variable `s` that grows with every round. */
const growing = (change: string, rounds = 40, start = "'aaaaaaaaaa'") =>
  `{% set ns = namespace(s=${start}) %}{% for i in range(${rounds}) %}{% set ns.s = ${change} %}{% endfor %}{{ ns.s | length }}`;
const many = '{% for a in range(99999) %}{% for b in range(99999) %}';
const end = '{% endfor %}{% endfor %}';

it('a template may use lists as long as its budget lasts', () => {
  const said = (template: string) => new ChatTemplate(template, 'test').render({ messages: [] } as never);
  expect(said("{% for row in [1] | batch(200000, 'x') %}{{ row | length }}{% endfor %}")).toBe('200000');
});

describe('a hostile template is stopped', () => {
  it.each([
    ['endless loops', `${many}${end}`],
    ['endless output', `${many}xxxxxxxxxx${end}`],
    ['endless growth of a text by +', growing('ns.s + ns.s')],
    ['endless growth of a text by ~', growing('ns.s ~ ns.s')],
    ['endless growth of a text by *', growing('ns.s * 10')],
    ['a text of a size no machine has', "{{ 'a' * 1000000000000000000000 }}"],
    ['endless growth by replace', growing("ns.s | replace('a', 'aaaaaaaaaa')")],
    ['endless growth by the method replace', growing("ns.s.replace('a', 'aaaaaaaaaa')")],
    ['endless growth by an empty replace', growing("ns.s.replace('', 'aaaaaaaaaa')")],
    ['endless growth by join', growing("ns.s.join(['b'] * 100)")],
    ['endless growth by the filter join', growing('[ns.s, ns.s] | join(ns.s)')],
    ['endless growth by format', growing("'%s%s' | format(ns.s, ns.s)")],
    ['endless growth by the method format', growing("'{0}{0}'.format(ns.s)")],
    ['endless growth by tojson', growing('ns.s | tojson | tojson')],
    ['endless growth by escape', growing("ns.s | replace('a', '<') | escape")],
    ['endless growth by indent', growing("(ns.s ~ '\\n' ~ ns.s) | indent(100)")],
    [
      'endless growth by a set block',
      "{% set x = 'aaaa' %}{% for i in range(60) %}{% endfor %}" +
        growing('m(ns.s)').replace(/^/, '{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}'),
    ],
    ['a wide field', "{{ '%999999999d' % 1 }}"],
    ['a wide field of format', "{{ '{:>999999999}'.format('x') }}"],
    ['a wide center', "{{ 'x'.center(9999999999) }}"],
    ['wide indentation', "{{ 'x' | indent(9999999999, true) }}"],
    ['JSON indented by a long text', `${growing('ns.s ~ ns.s', 20)}{{ [[[[1]]]] | tojson(indent=ns.s) }}`],
    ['many digits', "{{ '%.99999999f' % 1 }}"],
    ['a growing number', growing('ns.s * ns.s', 99, '99999')],
    ['a power', '{{ 9 ** 99999999 }}'],
    ['endless growth of a list', growing('ns.s + ns.s', 60, '[1]')],
    ['a long list by *', '{{ ([1] * 100000000) | length }}'],
    ['many long lists', growing('[ns.s, range(99999) | list]', 999, '[]')],
    ['many long texts', growing("[ns.s, ('a' * 9999999) ~ i]", 999, '[]')],
    ['a long range', '{% for a in range(1000000000) %}{% endfor %}'],
    ['a tree that shares its branches, as JSON', growing('[ns.s, ns.s]', 60).replace('length', 'tojson')],
    ['a tree that shares its branches, printed', growing('[ns.s, ns.s]', 60).replace('length', 'string')],
    [
      'a tree that shares its branches, compared',
      `${growing('[ns.s, ns.s]', 60)}{% set ns.t = [ns.s[0], ns.s[0]] %}${growing('[ns.s, ns.s]', 60).replaceAll('ns', 'us')}{{ ns.s == us.s }}`,
    ],
    ['endless recursion of a macro', '{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}'],
    ['endless recursion of a loop', '{% set l = [1] %}{% for x in l recursive %}{{ loop(l) }}{% endfor %}'],
    ['a namespace that holds itself', '{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}'],
    ['deep brackets', `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`],
    ['deep lists', `{{ ${'['.repeat(50_000)}${']'.repeat(50_000)} }}`],
    ['deep nots', `{{ ${'not '.repeat(50_000)}1 }}`],
    ['deep blocks', '{% if 1 %}'.repeat(50_000) + '{% endif %}'.repeat(50_000)],
    ['a long template', 'x'.repeat(2 ** 20 + 1)],
    ['sorting over and over', `{% set l = range(9999) | list %}${many}{{ l | sort | length }}${end}`],
    ['searching over and over', `{% set t = 'ab' * 999999 %}${many}{{ t.find('c') }}${end}`],
    ['searching lists over and over', `{% set l = range(99999) | list %}${many}{{ -1 in l }}${end}`],
    ['counting letters over and over', `{% set t = '😀' * 999999 %}${many}{{ t | length }}${end}`],
    ['taking letters over and over', `{% set t = '😀' * 999999 %}${many}{{ t[5] }}${end}`],
    ['comparing over and over', `{% set t = 'a' * 9999999 %}${many}{{ (t ~ a) == (t ~ b) }}${end}`],
    ['ordering over and over', `{% set t = 'a' * 9999999 %}${many}{{ (t ~ a) < (t ~ b) }}${end}`],
    ['long keys over and over', `{% set t = 'a' * 9999999 %}{% set d = {} %}${many}{{ d[t ~ a] }}${end}`],
    ['long keys of dicts', `{% set t = 'a' * 9999999 %}${many}{{ {t ~ a: b} | length }}${end}`],
    [
      'long numbers over and over',
      `{% set t = '1' * 9999999 %}${many}{{ (t ~ a) | int | string | length }}${end}`,
    ],
    ['a key that shares its branches', `${growing('(ns.s, ns.s)', 60)}{{ {ns.s: 1} | length }}`],
    ['a key that shares its branches, looked up', `${growing('(ns.s, ns.s)', 60)}{{ {}[ns.s] }}`],
    [
      'a key that shares its branches, looked for',
      `${growing('(ns.s, ns.s)', 60)}{{ [ns.s] | unique | list | length }}`,
    ],
    ['splitting over and over', `{% set t = 'a ' * 99999 %}${many}{{ t.split() | length }}${end}`],
    ['stripping over and over', `{% set t = ' ' * 999999 %}${many}{{ (t ~ 'a' ~ t).strip() }}${end}`],
    ['large letters over and over', `{% set t = 'a' * 999999 %}${many}{{ t | upper | length }}${end}`],
  ])('%s', (_, template) => {
    let failure: unknown;
    try {
      new ChatTemplate(template, 'evil.jinja').render({});
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(TokenizerError);
    expect((failure as Error).message).toMatch(/evil\.jinja cannot render this conversation: /);
  });
});

it('allows a long conversation', () => {
  const template =
    "{% set ns = namespace(all='') %}{% for m in messages %}{% set ns.all = ns.all + '<|' + m.role + '|>' + m.content.strip() %}{{ m.content | trim }}{% endfor %}{{ ns.all }}";
  const content = ' word'.repeat(100_000);
  const messages = Array.from({ length: 20 }, () => ({ role: 'user', content }));
  expect(new ChatTemplate(template, 'test').render({ messages })).toHaveLength(20 * (2 * 499_999 + 8));
});

it('sees nothing of the process', () => {
  for (const expression of [
    "''.constructor",
    'range.constructor',
    'messages.constructor',
    "messages['__proto__']",
    "messages.constructor.constructor('return process')()",
    'process',
    'globalThis',
    'require',
    'toString',
    'hasOwnProperty',
    'valueOf',
    'messages.toString',
    'messages.length',
    'messages.map',
    'd.hasOwnProperty',
    'namespace.constructor',
    'namespace().constructor',
    'raise_exception.__globals__',
    "d['constructor']",
    "dict()['__proto__']",
  ]) {
    let text = 'False';
    try {
      text = new ChatTemplate(`{{ ${expression} is defined }}`, 'test').render({ messages: [1], d: {} });
    } catch (error) {
      expect(error, expression).toBeInstanceOf(TokenizerError);
    }
    expect(text, expression).toBe('False');
  }
});
