import type { Hono } from 'hono';
import { ExpertsInterface, ImageTextToText } from '../../index.ts';
import type { Api } from '../api.ts';
import { ApiError, openAiBody } from '../api-error.ts';
import type { ModelState } from '../model-pool.ts';
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
    const body = await readBody(c, api.bodies, chatSchema);
    const n = api.choices(body.n);
    return api.answer(c, {
      ...{ model: body.model, stream: body.stream, failed },
      requests: ({ model }) => Array.from({ length: n }, (_, i) => chatAnswer(body, api.settings, model, i)),
      whole: (answers, { name }) => chatCompletion(name, answers),
      events: (answers, { name }) => chatChunks(name, answers, body),
    });
  });

  app.post('/v1/completions', async (c) => {
    const body = await readBody(c, api.bodies, completionSchema);
    const n = api.choices(body.n);
    const prompts = promptsOf(body.prompt);
    api.checkPrompts(prompts.length);
    const echoes = (served: ServedModel) =>
      Promise.all(prompts.map((prompt) => echoOf(served, prompt, body, c.req.raw.signal)));
    return api.answer(c, {
      ...{ model: body.model, stream: body.stream, failed },
      requests: ({ model }) => completionAnswers(body, n, api.settings, model),
      whole: async (answers, served) => completion(served, answers, await echoes(served), n),
      events: (answers, served) => completionChunks(served, answers, () => echoes(served), n, body),
    });
  });

  app.post('/v1/responses', async (c) => {
    const body = await readBody(c, api.bodies, responseSchema);
    return api.answer(c, {
      ...{ model: body.model, stream: body.stream, failed: responseFailed },
      requests: ({ model }) => [responseAnswer(body, api.settings, model)],
      whole: (answers, { name }) => response(name, answers, body),
      events: (answers, { name }) => responseEvents(name, answers, body),
    });
  });

  app.get('/v1/models', (c) => c.json({ object: 'list', data: api.models.states.map(modelEntry) }));
  app.get('/v1/models/:name{.+}', (c) => c.json(modelEntry(api.models.state(c.req.param('name')))));
  app.post('/v1/embeddings', () => {
    throw new ApiError(
      400,
      'The models served here generate text and give no embeddings; in a program, AutoModel of moe-switchyard gives those of an embedding model',
      {
        code: 'unsupported_model',
      },
    );
  });
}

/**
 * As OpenAI lists models, with what vLLM adds, whether it sees pictures, and which experts backends it may be asked on. Of a model that is not
 * loaded the latter are not known.
 */
function modelEntry({ name, created, model }: ModelState) {
  const entry = { id: name, object: 'model', created, owned_by: 'switchyard', loaded: model !== undefined };
  if (!model) return { ...entry, max_model_len: null, vision: null, experts: null };
  const { backend: implementation, layers } = model.routingHeader;
  return {
    ...entry,
    max_model_len: model.contextLength,
    vision: model instanceof ImageTextToText,
    experts: layers.length === 0 ? null : { implementation, available: ExpertsInterface.names() },
  };
}
