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
    const body = await readBody(c, api.bodies, messageSchema);
    return api.answer(c, {
      ...{ model: body.model, stream: body.stream, failed },
      requests: ({ model }) => [messageAnswer(body, api.settings, model)],
      whole: (answers, { name }) => message(name, answers),
      events: (answers, { name }) => messageEvents(name, answers),
    });
  });

  app.post('/v1/messages/count_tokens', async (c) => {
    const body = await readBody(c, api.bodies, countSchema);
    const tokenizer = await api.use(c, body.model, ({ model }) => model.tokenizer());
    const { messages, continueFinalMessage, templateArguments } = promptOf(body, api.settings.pictureHosts);
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
