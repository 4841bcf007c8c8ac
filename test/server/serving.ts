import { join } from 'node:path';
import { AutoModelForCausalLM, type CausalLM, type Tokenizer } from '../../src/index.ts';
import {
  createServer,
  type Listening,
  listen,
  type Server,
  type ServerOptions,
} from '../../src/server/index.ts';

const DEMO = join(import.meta.dirname, '../../configs/demo-model');

/** The demo model, or another, on a port of this machine. */
export interface Serving {
  readonly model: CausalLM;
  readonly tokenizer: Tokenizer;
  readonly server: Server;
  readonly url: string;
  readonly listening: Listening;
  /** What the server has told nobody but its log. */
  readonly faults: unknown[];
  /** What the model has warned of. */
  readonly warnings: string[];
  stop(): Promise<void>;
}

export async function serveDemo(options: ServerOptions = {}, folder = DEMO): Promise<Serving> {
  const warnings: string[] = [];
  const model = await AutoModelForCausalLM.fromPretrained(folder, {
    onWarning: (message) => warnings.push(message),
  });
  const tokenizer = await model.tokenizer();
  const faults: unknown[] = [];
  const server = createServer(
    { model, name: 'demo' },
    { onError: (error) => faults.push(error), ...options },
  );
  const listening = await listen(server, { port: 0 });
  return {
    model,
    tokenizer,
    server,
    url: listening.url,
    listening,
    faults,
    warnings,
    stop: async () => {
      await listening.close();
      await model.dispose();
    },
  };
}

/** A JSON request, and its response with the body read. */
export async function post(url: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(url, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: (text === '' ? undefined : JSON.parse(text)) as Record<string, unknown>,
  };
}
