/** Answers that the limit of tokens has cut off, at each token of one that calls a function. */
import Anthropic from '@anthropic-ai/sdk';
import { describe, expect, it } from 'vitest';
import { wholeMembers } from '../../src/server/anthropic/whole-members.ts';
import { createServer } from '../../src/server/index.ts';
import { scriptedModel } from '../helpers/scripted-model.ts';

const ARGUMENTS = { city: 'Aix "les" Bains', days: 12, hours: [1, { at: true }] };
const CALL = JSON.stringify(ARGUMENTS);
const ANSWER = `Well. <tool_call>\n{"name": "weather", "arguments": ${CALL}}\n</tool_call>`;
const messages = [{ role: 'user' as const, content: 'Hi' }];
const parameters = { type: 'object', properties: {} };

/** Asks a model that gives the answer, with so many tokens at most. */
async function asking() {
  const { tokenizer } = await scriptedModel();
  const tokens = tokenizer.encode(ANSWER).length;
  const ask = async (path: string, body: object) => {
    const { model } = await scriptedModel(ANSWER);
    const { app } = createServer(model);
    return app.request(path, { method: 'POST', body: JSON.stringify(body) });
  };
  const limits = Array.from({ length: tokens }, (_, i) => i + 1);
  return { ask, limits, tokens };
}

const dataOf = (text: string) =>
  [...text.matchAll(/^data: (\{.*)$/gm)].map(([, json]) => JSON.parse(json as string) as never);

describe('an answer that is cut off', () => {
  it('has no tag as text, and of the arguments what came: /v1/chat/completions', async () => {
    const { ask, limits, tokens } = await asking();
    const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
    for (const limit of limits) {
      const body = { messages, tools, max_tokens: limit };
      const { choices } = (await (await ask('/v1/chat/completions', body)).json()) as {
        choices: [
          {
            finish_reason: string;
            message: { content: string | null; tool_calls?: { function: { arguments: string } }[] };
          },
        ];
      };
      const [{ message, finish_reason: finish }] = choices;
      expect([limit, finish]).toEqual([limit, limit < tokens ? 'length' : 'tool_calls']);
      expect('Well.').toContain(message.content ?? '');
      for (const call of message.tool_calls ?? []) expect(CALL).toContain(call.function.arguments);
      const streamed = await (await ask('/v1/chat/completions', { ...body, stream: true })).text();
      expect(streamed).not.toMatch(/<\/?tool/);
    }
  });

  it('has an input of what is whole, streamed alike, and a reason: /v1/messages', async () => {
    const { ask, limits, tokens } = await asking();
    const client = new Anthropic({
      ...{ apiKey: 'none', baseURL: 'http://server', maxRetries: 0 },
      fetch: (url, init) => ask(new URL(String(url)).pathname, JSON.parse(String(init?.body))),
    });
    const tools = [{ name: 'weather', input_schema: parameters as { type: 'object' } }];
    const inputs: unknown[] = [];
    for (const limit of limits) {
      const body = { model: 'scripted', messages, tools, max_tokens: limit };
      const { content, stop_reason: reason } = await client.messages.create(body);
      expect([limit, reason]).toEqual([limit, limit < tokens ? 'max_tokens' : 'tool_use']);
      for (const block of content) {
        if (block.type === 'text') expect('Well.').toContain(block.text);
        else if (block.type === 'tool_use') inputs.push(block.input);
        else throw new Error(block.type);
      }
      const stream = client.messages.stream(body);
      let pieces = '';
      stream.on('inputJson', (piece) => {
        pieces += piece;
      });
      const final = await stream.finalMessage();
      expect(final.content.map(({ type }) => type)).toEqual(content.map(({ type }) => type));
      expect(CALL.startsWith(pieces)).toBe(true);
    }
    expect(inputs[0]).toEqual({});
    expect(inputs).toContainEqual({ city: ARGUMENTS.city });
    expect(inputs.at(-1)).toEqual(ARGUMENTS);
    for (const input of inputs as Record<string, unknown>[])
      for (const key of Object.keys(input)) expect(Object.keys(ARGUMENTS)).toContain(key);
  });

  it('says so of the item that it ends in, and of no other: /v1/responses', async () => {
    const { ask, limits, tokens } = await asking();
    const tools = [{ type: 'function', name: 'weather', parameters }];
    const seen = new Set<string>();
    for (const limit of limits) {
      const body = { input: 'Hi', tools, max_output_tokens: limit };
      type Response = { status: string; output: { type: string; status: string; arguments?: string }[] };
      const whole = (await (await ask('/v1/responses', body)).json()) as Response;
      const text = await (await ask('/v1/responses', { ...body, stream: true })).text();
      const { response: last } = dataOf(text).at(-1) as unknown as { response: Response };
      for (const { status, output } of [whole, last]) {
        expect([limit, status]).toEqual([limit, limit < tokens ? 'incomplete' : 'completed']);
        const states = output.map((item) => `${item.type} ${item.status}`).join(', ');
        seen.add(states);
        for (const item of output.slice(0, -1)) expect(item.status).toBe('completed');
        const call = output.find(({ type }) => type === 'function_call');
        if (call) expect(call.status).toBe(call.arguments === CALL ? 'completed' : 'incomplete');
        expect(JSON.stringify(output)).not.toMatch(/<\/?tool/);
      }
    }
    expect([...seen]).toEqual(
      expect.arrayContaining([
        'message incomplete',
        'message completed, function_call incomplete',
        'message completed, function_call completed',
      ]),
    );
  });
});

describe('wholeMembers', () => {
  it('takes of a text that breaks off anywhere what is whole, and nothing else', () => {
    const text = '{"a": "x\\"y", "n": -1.5e3, "l": [1, {"b": true, "c": null}], "e": {}, "s": "end"}';
    const whole = JSON.parse(text) as Record<string, unknown>;
    const seen = new Set<string>();
    for (let cut = 0; cut <= text.length; cut++) {
      const members = wholeMembers(text.slice(0, cut));
      seen.add(JSON.stringify(members));
      for (const [key, value] of Object.entries(members))
        if (key !== 'l' && key !== 'e') expect(value).toEqual(whole[key]);
    }
    expect([...seen]).toEqual([
      '{}',
      '{"a":"x\\"y"}',
      '{"a":"x\\"y","n":-1500}',
      '{"a":"x\\"y","n":-1500,"l":[]}',
      '{"a":"x\\"y","n":-1500,"l":[1]}',
      '{"a":"x\\"y","n":-1500,"l":[1,{}]}',
      '{"a":"x\\"y","n":-1500,"l":[1,{"b":true}]}',
      '{"a":"x\\"y","n":-1500,"l":[1,{"b":true,"c":null}]}',
      '{"a":"x\\"y","n":-1500,"l":[1,{"b":true,"c":null}],"e":{}}',
      JSON.stringify(whole),
    ]);
  });

  it.each(['', '"abc', '[1, 2', '12', '{"a" 1', '{]', '{"a": tru', 'null'])('finds nothing in %j', (text) => {
    expect(wholeMembers(text)).toEqual({});
  });
});
