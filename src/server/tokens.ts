import type { Hono } from 'hono';
import * as z from 'zod';
import type { Api } from './api.ts';
import { badField } from './api-error.ts';
import { conversationOf } from './conversation.ts';
import { chatSchema } from './openai/chat-fields.ts';
import { idList, maybe, readBody } from './request.ts';

const tokenizeSchema = z.looseObject({
  model: maybe(z.string()),
  prompt: maybe(z.string()),
  messages: maybe(chatSchema.shape.messages),
  tools: chatSchema.shape.tools,
  add_special_tokens: maybe(z.boolean()),
  add_generation_prompt: maybe(z.boolean()),
});
const detokenizeSchema = z.looseObject({ model: maybe(z.string()), tokens: idList(0) });

/** `/tokenize` and `/detokenize`, in vLLM's words. */
export function addTokenRoutes(app: Hono, api: Api): void {
  app.post('/tokenize', async (c) => {
    const body = await readBody(c, api.bodies, tokenizeSchema);
    const { tokenizer, contextLength } = await api.use(c, body.model, async ({ model }) => ({
      tokenizer: await model.tokenizer(),
      contextLength: model.contextLength,
    }));
    if ((body.prompt === undefined) === (body.messages === undefined))
      throw badField('prompt', 'expected either prompt or messages');
    const text =
      body.prompt ??
      tokenizer.applyChatTemplate(conversationOf(body.messages ?? [], api.settings.pictureHosts), {
        tokenize: false,
        addGenerationPrompt: body.add_generation_prompt ?? true,
        ...(body.tools && { tools: body.tools }),
      });
    const addSpecialTokens = body.prompt !== undefined && (body.add_special_tokens ?? true);
    const tokens = await tokenizer.encodeAsync(text, { addSpecialTokens, signal: c.req.raw.signal });
    return c.json({ count: tokens.length, max_model_len: contextLength, tokens });
  });

  app.post('/detokenize', async (c) => {
    const body = await readBody(c, api.bodies, detokenizeSchema);
    const tokenizer = await api.use(c, body.model, ({ model }) => model.tokenizer());
    return c.json({ prompt: tokenizer.decode(body.tokens) });
  });
}
