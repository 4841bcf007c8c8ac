import type { Hono } from 'hono';
import { ExpertsInterface, ImageTextToText } from '../../index.ts';
import type { Api } from '../api.ts';
import { ApiError, openAiBody } from '../api-error.ts';
import { readBody } from '../request.ts';
import type { ServedModel } from '../served-model.ts';
import { chatChunks, chatCompletion } from './chat-completions.ts';
import { chatSchema } from './chat-fields.ts';
import { chatAnswer } from './chat-request.ts';
import { completionAnswers, completionSchema, promptsOf } from './completion-request.ts';
import { completion, completionChunks } from './completions.ts';
import { echoOf } from './echo.ts';
import { responseSchema } from './response-fields.ts';
import { responseAnswer } from './response-request.ts';
import { response, responseEvents, responseFailed } from './responses.ts';

const failed = (error: ApiError) => ({ data: openAiBody(error) });

/** `/v1/chat/completions`, `/v1/completions`, `/v1/responses`, `/v1/models`, and `/v1/embeddings`, which is refused. */
export function addOpenAiRoutes(app: Hono, api: Api): void {
  app.post('/v1/chat/completions', async (c) => {
    const body = await readBody(c, chatSchema);
    const served = api.model(body.model);
    const { contextLength } = served.model;
    const requests = Array.from({ length: api.choices(body.n) }, (_, i) =>
      chatAnswer(body, api.settings, contextLength, i),
    );
    return body.stream
      ? api.stream(c, served, requests, (answers) => chatChunks(served.name, answers, body), failed)
      : api.respond(c, served, requests, (answers) => chatCompletion(served.name, answers));
  });

  app.post('/v1/completions', async (c) => {
    const body = await readBody(c, completionSchema);
    const served = api.model(body.model);
    const n = api.choices(body.n);
    const requests = completionAnswers(body, n, api.settings, served.model.contextLength);
    const prompts = promptsOf(body.prompt);
    api.checkPrompts(prompts.length);
    const echoes = () => Promise.all(prompts.map((prompt) => echoOf(served, prompt, body, c.req.raw.signal)));
    return body.stream
      ? api.stream(
          c,
          served,
          requests,
          (answers) => completionChunks(served.name, answers, echoes, n, body),
          failed,
        )
      : api.respond(c, served, requests, async (answers) =>
          completion(served.name, answers, await echoes(), n),
        );
  });

  app.post('/v1/responses', async (c) => {
    const body = await readBody(c, responseSchema);
    const served = api.model(body.model);
    const requests = [responseAnswer(body, api.settings, served.model.contextLength)];
    return body.stream
      ? api.stream(
          c,
          served,
          requests,
          (answers) => responseEvents(served.name, answers, body),
          responseFailed,
        )
      : api.respond(c, served, requests, (answers) => response(served.name, answers, body));
  });

  app.get('/v1/models', (c) => c.json({ object: 'list', data: [...api.models.values()].map(modelEntry) }));
  app.get('/v1/models/:name{.+}', (c) => c.json(modelEntry(api.model(c.req.param('name')))));
  app.post('/v1/embeddings', () => {
    throw new ApiError(
      400,
      'The models served here generate text and give no embeddings; use an embedding model for them',
      {
        code: 'unsupported_model',
      },
    );
  });
}

/** As OpenAI lists models, with what vLLM adds, and whether it sees pictures and which experts backends it may be asked on. */
function modelEntry({ name, created, model }: ServedModel) {
  const { backend: implementation, layers } = model.routingHeader;
  return {
    ...{ id: name, object: 'model', created, owned_by: 'switchyard', max_model_len: model.contextLength },
    vision: model instanceof ImageTextToText,
    experts: layers.length === 0 ? null : { implementation, available: ExpertsInterface.names() },
  };
}
