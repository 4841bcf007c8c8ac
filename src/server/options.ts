import * as z from 'zod';
import { expected, InputError, issueText } from '../errors.ts';
import { checkOptions } from '../options.ts';
import { ORIGIN_EXAMPLES, originOf } from './origin.ts';

/** Settings of a server. */
export interface ServerOptions {
  /** Key that clients must send, as `Authorization: Bearer …` or `x-api-key`. Default: none is asked for. */
  apiKey?: string | undefined;
  /** Names under which the server may be called (the `Host` header, without port), against pages that point their own names to it. Default: any. */
  hosts?: readonly string[] | undefined;
  /** Origins of pages that may call it, or `*`. Default: none but pages that it has sent itself. */
  origins?: readonly string[] | undefined;
  /** Requests that are answered at once; they share the model's passes. Default 8. */
  maxRunning?: number | undefined;
  /** Requests that wait for those, beyond which others are refused (429). Default 64. */
  maxWaiting?: number | undefined;
  /** Bytes of a request. Default 32 MiB, for pictures. */
  maxBody?: number | undefined;
  /** Bytes of all requests that are being read, wait or are answered, beyond which others are refused (503). Default 256 MiB. */
  maxBodies?: number | undefined;
  /** Most new tokens of an answer. Default: what the model's context leaves. */
  maxTokens?: number | undefined;
  /** Answers to one request (`n`). Default 8. */
  maxChoices?: number | undefined;
  /** Seconds an answer may take, from when it starts; it ends there as it stands. Default: no limit. */
  maxTime?: number | undefined;
  /** Milliseconds between comments that keep a silent stream open. Default 15000. */
  pingInterval?: number | undefined;
  /** Milliseconds that a stream waits for its reader to take something, before its connection is closed and others have its turn. Default 60000. */
  sendTimeout?: number | undefined;
  /**
   * Hosts from which pictures are fetched for clients, or `*`: never from addresses of this machine or a private network, and no larger than
   * `maxBody`. Default: none are fetched.
   */
  pictureHosts?: readonly string[] | undefined;
  /** Bytes that models on demand may take together; the one unused for longest gives way. Default: no limit. */
  maxModelBytes?: number | undefined;
  /** Whether `/metrics` has vLLM's names beside our own, for gateways that know those. Default false. */
  vllmMetrics?: boolean | undefined;
  /** Whether `/` is a page to converse on. Default true. */
  page?: boolean | undefined;
  /** Told of what clients are not: faults of the server. Default: standard error. */
  onError?: ((error: unknown) => void) | undefined;
}

/** Settings with defaults filled in. */
export interface Settings {
  readonly apiKey: string | undefined;
  readonly hosts: readonly string[] | undefined;
  readonly origins: readonly string[];
  readonly maxRunning: number;
  readonly maxWaiting: number;
  readonly maxBody: number;
  readonly maxBodies: number;
  readonly maxTokens: number | undefined;
  readonly maxChoices: number;
  readonly maxTime: number | undefined;
  readonly pingInterval: number;
  readonly sendTimeout: number;
  readonly pictureHosts: readonly string[];
  readonly maxModelBytes: number | undefined;
  readonly vllmMetrics: boolean;
  readonly page: boolean;
  readonly onError: (error: unknown) => void;
}

const count = (least: number) => z.int().min(least).optional();
/** Milliseconds; of longer times a timer makes none. */
const wait = count(1).pipe(
  z
    .number()
    .max(2 ** 31 - 1)
    .optional(),
);
const schema = z.object({
  apiKey: z.string().min(1).optional(),
  hosts: z.array(z.string()).optional(),
  origins: z.array(z.string()).optional(),
  maxRunning: count(1),
  maxWaiting: count(0),
  maxBody: count(1),
  maxBodies: count(1),
  maxTokens: count(1),
  maxChoices: count(1),
  maxTime: z.number().gt(0).optional(),
  pingInterval: wait,
  sendTimeout: wait,
  pictureHosts: z.array(z.string()).optional(),
  maxModelBytes: z.number().gt(0).optional(),
  vllmMetrics: z.boolean().optional(),
  page: z.boolean().optional(),
  onError: z.custom<(error: unknown) => void>((value) => typeof value === 'function').optional(),
});

export const SERVER_OPTIONS = Object.keys(schema.shape) as (keyof ServerOptions)[];

/** @throws InputError names the option */
export function settingsOf(options: ServerOptions): Settings {
  checkOptions(options, SERVER_OPTIONS, 'createServer');
  const result = schema.safeParse(options);
  if (!result.success)
    throw new InputError(`createServer: ${issueText(result.error.issues[0] as z.core.$ZodIssue, options)}`);
  const maxBody = options.maxBody ?? 32 * 2 ** 20;
  const maxBodies = options.maxBodies ?? Math.max(256 * 2 ** 20, maxBody);
  if (maxBodies < maxBody)
    throw new InputError(
      `createServer: maxBodies is ${maxBodies}, but one request may have ${maxBody} bytes; lower maxBody, or raise it`,
    );
  return {
    apiKey: options.apiKey,
    hosts: options.hosts,
    origins: (options.origins ?? []).map(checkedOrigin),
    maxRunning: options.maxRunning ?? 8,
    maxWaiting: options.maxWaiting ?? 64,
    maxBody,
    maxBodies,
    maxTokens: options.maxTokens,
    maxChoices: options.maxChoices ?? 8,
    maxTime: options.maxTime,
    pingInterval: options.pingInterval ?? 15_000,
    sendTimeout: options.sendTimeout ?? 60_000,
    pictureHosts: options.pictureHosts ?? [],
    maxModelBytes: options.maxModelBytes,
    vllmMetrics: options.vllmMetrics ?? false,
    page: options.page ?? true,
    onError: options.onError ?? ((error) => console.error(error)),
  };
}

function checkedOrigin(text: string, i: number): string {
  const origin = originOf(text);
  if (origin === undefined)
    throw new InputError(expected(`createServer: origins.${i}`, text, ORIGIN_EXAMPLES));
  return origin;
}
