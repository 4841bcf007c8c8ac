import { expect, it } from 'vitest';
import { AutoTokenizer, InputError } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const tokenizer = await AutoTokenizer.fromPretrained(goldenModel('qwen3_moe_c'));
const messages = [{ role: 'user', content: 'Hi' }];

it.each<[string, (options: never) => unknown]>([
  ['encode', (options) => tokenizer.encode('a', options)],
  ['a call', (options) => tokenizer('a', options)],
  ['encodeBatch', (options) => tokenizer.encodeBatch(['a', 'b'], options)],
  ['decode', (options) => tokenizer.decode([1, 2], options)],
  ['batchDecode', (options) => tokenizer.batchDecode([[1, 2]], options)],
  ['detokenizer', (options) => tokenizer.detokenizer(options)],
])('%s of a tokenizer refuses options that it does not know', (_, call) => {
  call({ zzzz: undefined } as never);
  expect(() => call({ zzzz: 1 } as never)).toThrow(InputError);
  expect(() => call({ zzzz: 1 } as never)).toThrow(/"zzzz" is not an option; options are/);
});

it.each<[() => unknown, string]>([
  [() => tokenizer.decode([1], { skip_special_tokens: true } as never), 'skipSpecialTokens'],
  [() => tokenizer('a', { add_special_tokens: true } as never), 'addSpecialTokens'],
  [() => tokenizer.applyChatTemplate(messages, { add_generation_prompt: true }), 'addGenerationPrompt'],
  [() => tokenizer.applyChatTemplate(messages, { tokenise: false }), 'tokenize'],
])('and leads %s to the right name', (call, guess) => {
  expect(call).toThrow(`Did you mean "${guess}"?`);
});

it('variables of a chat template may have any other name', () => {
  const text = tokenizer.applyChatTemplate(messages, { enable_thinking: false, foo: 1, tokenize: false });
  expect(text).toContain('Hi');
});

it('takes several texts as one list only', () => {
  expect(() => tokenizer('a', {}, 'b' as never)).toThrow(/takes no further argument, but got "b"/);
});
