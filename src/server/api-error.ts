import {
  AbortError,
  ConfigError,
  EngineError,
  ExpertsError,
  InputError,
  SwitchyardError,
  TokenizerError,
} from '../errors.ts';
import { inFields } from './option-fields.ts';

/** What a client is told of a failure; how it is written down depends on the API that was asked. */
export class ApiError extends Error {
  override name = 'ApiError';
  readonly status: number;
  /** As OpenAI's API has it, such as `invalid_request_error`. */
  readonly type: string;
  readonly code: string | null;
  /** The field at fault. */
  readonly param: string | null;
  /** Seconds after which to try again. */
  readonly retryAfter: number | undefined;

  constructor(
    status: number,
    message: string,
    {
      code = null,
      param = null,
      retryAfter,
    }: { code?: string | null; param?: string | null; retryAfter?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error');
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

const TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

/** The error for a field of a request. */
export function badField(param: string, message: string, code: string | null = null): ApiError {
  return new ApiError(400, `${param}: ${message}`, { param, code });
}

/** Whether a client went while it was sending its request. */
function isCutOff(error: unknown): boolean {
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'ECONNRESET' && message === 'aborted';
}

/**
 * What a client may know of a failure: all of what it asked for wrongly, and of faults of ours only that there was one.
 * @param report is told what the client is not
 */
export function apiErrorOf(error: unknown, report: (error: unknown) => void): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof AbortError || isCutOff(error))
    return new ApiError(499, 'The client closed the request');
  const isCallers = [InputError, TokenizerError, ExpertsError].some((kind) => error instanceof kind);
  if (isCallers) {
    const { message, param } = inFields((error as Error).message);
    const isTooLong = /the context (?:holds|of)|context holds/.test(message);
    const code = isTooLong ? 'context_length_exceeded' : null;
    return new ApiError(400, withoutPlaces(message), { code, param });
  }
  report(error);
  if (error instanceof EngineError && /memory/.test(error.message))
    return new ApiError(503, 'There is not enough memory for this request at the moment', { retryAfter: 5 });
  const isKnown = error instanceof SwitchyardError || error instanceof ConfigError;
  return new ApiError(
    500,
    isKnown ? 'The model failed; the log of the server says why' : 'The server failed; its log says why',
  );
}

/** The error of a request that leaves to generation_config.json what the file says wrongly: a request may say it itself. */
export function defaultsError(error: unknown): unknown {
  return error instanceof ConfigError ? new ApiError(400, withoutPlaces(error.message)) : error;
}

/** Paths from a root, up to their last part; values that a client gave stand in quotes. */
const PLACES = /(?<=^|[\s(])(?:[A-Za-z]:)?[\\/](?:[^:'"()\n]+[\\/])?(?=[^\s\\/])/g;

/** A message that does not tell where files lie. */
function withoutPlaces(message: string): string {
  return message.replaceAll(PLACES, '');
}

/** As OpenAI's clients read it. */
export function openAiBody({ message, type, param, code }: ApiError) {
  return { error: { message, type, param, code } };
}

/** As Anthropic's clients read it. */
export function anthropicBody({ message, type, status }: ApiError) {
  const name = status === 500 ? 'api_error' : type === 'server_error' ? 'api_error' : type;
  return { type: 'error', error: { type: name, message } };
}
