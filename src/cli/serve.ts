import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { type CausalLM, DEMO_MODEL, type ImageTextToText } from '../index.ts';
import { isLoopback } from '../net/public-address.ts';
import { ORIGIN_EXAMPLES, originOf } from '../server/origin.ts';
import { formatBytes } from '../units.ts';
import { END, ending } from './ending.ts';
import { type Io, UsageError } from './io.ts';
import { loadModel, type ModelFlags } from './load-model.ts';
import { modelInfo } from './model-info.ts';
import {
  addComputeOptions,
  decimal,
  examples,
  experts,
  given,
  integer,
  memorySize,
  requireDevice,
  strings,
} from './options.ts';

/** How long a server that is told to end goes on answering, in seconds. */
const DRAIN = 30;
/** Names under which a server on this machine alone is called. */
const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

interface NamedModel {
  readonly name: string | undefined;
  readonly source: string;
}

interface Flags extends ModelFlags {
  model?: NamedModel[];
  host: string;
  port: number;
  apiKey?: string;
  allowHost?: string[];
  allowOrigin?: string[];
  maxRunning?: number;
  maxWaiting?: number;
  maxTokens?: number;
  maxTime?: number;
  sendTimeout?: number;
  drain: number;
  page: boolean;
  allowPictures?: string[];
  modelsMemory?: number;
  vllmMetrics?: boolean;
}

/** `switchyard serve`: OpenAI's API for one or several models, until it is told to end. */
export function addServeCommand(program: Command, io: Io): void {
  const command = program
    .command('serve')
    .description(
      "Serve models over HTTP in OpenAI's and Anthropic's words. Without --model, the demo is served.",
    )
    .option('-m, --model <model>', 'a repo or folder, or NAME=repo; repeatable', models)
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--experts <spec>', 'experts backend: a name, or key=name,key=name', experts)
    .option('--host <host>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0: any that is free', integer(0, 65_535), 8000)
    .option('--api-key <key>', 'key that clients must send (default: SWITCHYARD_API_KEY)')
    .option('--allow-host <name>', 'a name under which the server is called; repeatable', strings)
    .option('--allow-origin <origin>', 'an origin whose pages may call it, or *; repeatable', origins)
    .option('--allow-pictures <host>', 'a host to fetch pictures from, or *; repeatable', strings)
    .option('--max-running <n>', 'requests answered at once (default: 8)', integer(1))
    .option('--max-waiting <n>', 'requests that may wait (default: 64)', integer(0))
    .option('--max-tokens <n>', 'most new tokens of an answer', integer(1))
    .option('--max-time <seconds>', 'most time of an answer', decimal({ above: 0 }))
    .option(
      '--send-timeout <seconds>',
      'time that a stream waits for its reader before it gives up its turn (default: 60)',
      decimal({ least: 0.001 }),
    )
    .option(
      '--models-memory <size>',
      'load models when they are asked for, so many that they take at most this, such as 60GB',
      memorySize,
    )
    .option('--vllm-metrics', "figures under vLLM's names, too")
    .option('--no-page', 'no page to converse on at /')
    .option('--drain <seconds>', `time to finish answers after ${END}`, decimal({ least: 0 }), DRAIN);
  addComputeOptions(command)
    .addHelpText('after', examples(['switchyard serve -m Qwen/Qwen3-30B-A3B', '']))
    .action((flags: Flags) => serve(flags, io));
}

/** Parser of `NAME=source`; what is no name before `=` belongs to a path. */
function models(text: string, before: readonly NamedModel[] = []): NamedModel[] {
  const named = /^([\w.:-]+)=(.+)$/.exec(text);
  const source = named ? named[2] : text;
  if (!source) throw new InvalidArgumentError('It must be a repo, a folder, or NAME=repo.');
  return [...before, { name: named?.[1], source }];
}

function origins(text: string, before: readonly string[] = []): string[] {
  const origin = originOf(text);
  if (origin === undefined) throw new InvalidArgumentError(`It must be ${ORIGIN_EXAMPLES}.`);
  return [...before, origin];
}

async function serve(flags: Flags, io: Io): Promise<void> {
  await requireDevice(flags.device);
  // Only who serves loads the code of it.
  const { createServer, listen } = await import('../server/index.ts');
  const loaded: { model: CausalLM | ImageTextToText; name: string }[] = [];
  const onDemand = async ({ name, source }: { name: string; source: string }) => {
    const [bytes, most] = [await weightBytes(source, flags, io), flags.modelsMemory as number];
    if (bytes > most)
      throw new UsageError(
        `${name} takes ${formatBytes(bytes)}, more than --models-memory, ${formatBytes(most)}; raise it`,
      );
    return { name, bytes, load: () => loadModel(source, flags, io) };
  };
  try {
    const named = (flags.model ?? [{ name: undefined, source: DEMO_MODEL }]).map(({ name, source }) => ({
      name: name ?? source,
      source,
    }));
    const models = flags.modelsMemory === undefined ? loaded : await Promise.all(named.map(onDemand));
    if (flags.modelsMemory === undefined)
      for (const { name, source } of named) loaded.push({ model: await loadModel(source, flags, io), name });
    const apiKey = flags.apiKey ?? process.env.SWITCHYARD_API_KEY;
    const isLocal = isLoopback(flags.host);
    const hosts = [...(isLocal ? [...LOOPBACK, flags.host] : []), ...(flags.allowHost ?? [])];
    const server = createServer(
      models,
      given({
        apiKey,
        // On other addresses the server has names that we do not know.
        hosts: hosts.length > 0 ? hosts : undefined,
        origins: flags.allowOrigin,
        pictureHosts: flags.allowPictures,
        maxRunning: flags.maxRunning,
        maxWaiting: flags.maxWaiting,
        maxTokens: flags.maxTokens,
        maxTime: flags.maxTime,
        sendTimeout: flags.sendTimeout === undefined ? undefined : Math.round(flags.sendTimeout * 1000),
        page: flags.page,
        vllmMetrics: flags.vllmMetrics,
        maxModelBytes: flags.modelsMemory,
        onError: (error: unknown) => io.stderr.write(`error: ${describe(error)}\n`),
      }),
    );
    const listening = await listen(server, { host: flags.host, port: flags.port });
    if (!isLocal && apiKey === undefined)
      io.stderr.write(
        `warning: whoever reaches ${flags.host} may use this server; --api-key or SWITCHYARD_API_KEY makes it ask for a key\n`,
      );
    io.stderr.write(`serving ${named.map(({ name }) => name).join(', ')} on ${listening.url}\n`);
    await ending(io.stop);
    const isDone = await listening.close(io.stop.aborted ? 0 : flags.drain * 1000);
    io.stderr.write(isDone ? 'ended\n' : 'ended with requests unanswered\n');
  } finally {
    await Promise.all(loaded.map(({ model }) => model.dispose()));
  }
}

/** Bytes of a model's weights: as they lie on this disk or on the Hub, else by its config. */
async function weightBytes(source: string, { revision }: Flags, io: Io): Promise<number> {
  const onWarning = (message: string) => io.stderr.write(`warning: ${message}\n`);
  const info = await modelInfo(source, { ...given({ revision }), onWarning, signal: io.stop });
  const onDisk = info.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const bytes = onDisk || info.hub?.bytes;
  return bytes || info.parameters.total * (info.dtype === 'float32' ? 4 : 2);
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
