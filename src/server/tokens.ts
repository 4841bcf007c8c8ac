import type { Hono } from 'hono';
import * as z from 'zod';
import type { Tokenizer } from '../index.ts';
import type { Api } from './api.ts';
import { badField } from './api-error.ts';
import { conversationOf, templateArguments } from './conversation.ts';
import { chatSchema } from './openai/chat-fields.ts';
import { idList, maybe, readBody } from './request.ts';

const tokenizeSchema = z.looseObject({
  model: maybe(z.string()),
  prompt: maybe(z.string()),
  messages: maybe(chatSchema.shape.messages),
  tools: chatSchema.shape.tools,
  add_special_tokens: maybe(z.boolean()),
  add_generation_prompt: maybe(z.boolean()),
  continue_final_message: maybe(z.boolean()),
  chat_template_kwargs: chatSchema.shape.chat_template_kwargs,
  return_token_strs: maybe(z.boolean()),
});
type TokenizeRequest = z.output<typeof tokenizeSchema>;
const detokenizeSchema = z.looseObject({ model: maybe(z.string()), tokens: idList(0) });

/** `/tokenize` and `/detokenize`, in vLLM's words. */
export function addTokenRoutes(app: Hono, api: Api): void {
  app.post('/tokenize', async (c) => {
    const body = await readBody(c, api.bodies, tokenizeSchema);
    const { tokenizer, contextLength } = await api.use(c, body.model, async ({ model }) => ({
      tokenizer: await model.tokenizer(),
      contextLength: model.contextLength,
    }));
    const text = textOf(body, tokenizer, api.settings.pictureHosts);
    // A template writes them itself.
    const addSpecialTokens = body.add_special_tokens ?? body.prompt !== undefined;
    const tokens = await tokenizer.encodeAsync(text, { addSpecialTokens, signal: c.req.raw.signal });
    const names = body.return_token_strs ? tokens.map((id) => tokenizer.idToToken(id)) : null;
    return c.json({ count: tokens.length, max_model_len: contextLength, tokens, token_strs: names });
  });

  app.post('/detokenize', async (c) => {
    const body = await readBody(c, api.bodies, detokenizeSchema);
    const tokenizer = await api.use(c, body.model, ({ model }) => model.tokenizer());
    const unknown = body.tokens.findIndex((id) => tokenizer.idToToken(id) === undefined);
    if (unknown !== -1) throw badField(`tokens.${unknown}`, `there is no token ${body.tokens[unknown]}`);
    return c.json({ prompt: tokenizer.decode(body.tokens) });
  });
}

/** The text whose tokens are asked for. @throws ApiError for what contradicts itself */
function textOf(body: TokenizeRequest, tokenizer: Tokenizer, pictureHosts: readonly string[]): string {
  const { prompt, messages, tools, add_generation_prompt: opens, continue_final_message: goesOn } = body;
  if ((prompt === undefined) === (messages === undefined))
    throw badField('prompt', 'expected either prompt or messages');
  if (messages === undefined) return prompt as string;
  if (opens && goesOn)
    throw badField('continue_final_message', 'excludes add_generation_prompt; leave one of them out');
  return tokenizer.applyChatTemplate(conversationOf(messages, pictureHosts), {
    ...templateArguments(body.chat_template_kwargs),
    tokenize: false,
    addGenerationPrompt: opens ?? !goesOn,
    continueFinalMessage: goesOn ?? false,
    ...(tools && { tools }),
  });
}
