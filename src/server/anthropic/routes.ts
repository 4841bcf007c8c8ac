import type { Hono } from 'hono';
import type { Api } from '../api.ts';
import { type ApiError, anthropicBody } from '../api-error.ts';
import { readBody } from '../request.ts';
import { countSchema, messageSchema } from './message-fields.ts';
import { messageAnswer, promptOf, toolsOf } from './message-request.ts';
import { message, messageEvents } from './messages.ts';

const failed = (error: ApiError) => ({ event: 'error', data: anthropicBody(error) });

/** `/v1/messages`, and `/v1/messages/count_tokens`. */
export function addAnthropicRoutes(app: Hono, api: Api): void {
  app.post('/v1/messages', async (c) => {
    const body = await readBody(c, messageSchema);
    const served = api.model(body.model);
    const requests = [messageAnswer(body, api.settings, served.model.contextLength)];
    return body.stream
      ? api.stream(c, served, requests, (answers) => messageEvents(served.name, answers), failed)
      : api.respond(c, served, requests, (answers) => message(served.name, answers));
  });

  app.post('/v1/messages/count_tokens', async (c) => {
    const body = await readBody(c, countSchema);
    const tokenizer = await api.model(body.model).model.tokenizer();
    const { messages, continueFinalMessage, templateArguments } = promptOf(body);
    const tools = toolsOf(body);
    const text = tokenizer.applyChatTemplate(messages, {
      ...templateArguments,
      ...(tools && { tools }),
      continueFinalMessage,
      addGenerationPrompt: !continueFinalMessage,
      tokenize: false,
    });
    const ids = await tokenizer.encodeAsync(text, { addSpecialTokens: false, signal: c.req.raw.signal });
    return c.json({ input_tokens: ids.length });
  });
}
