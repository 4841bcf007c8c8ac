/** A line of a results file, as OpenAI's batch API has it. */
export interface BatchResult {
  /** Names the line of the input, so that a run that is taken up again knows what it has. */
  readonly id: string;
  /** Null where the line has none. */
  readonly custom_id: string | null;
  /** Null where the line was no request. */
  readonly response: {
    readonly status_code: number;
    readonly request_id: string;
    readonly body: unknown;
  } | null;
  /** Why there is no response. */
  readonly error: { readonly code: string; readonly message: string } | null;
}

const PREFIX = 'batch_req_';

export function resultId(line: number): string {
  return PREFIX + line;
}

/** The line that a result answers, or undefined where its id is none of ours. */
export function lineOf(id: unknown): number | undefined {
  const digits = typeof id === 'string' && id.startsWith(PREFIX) ? id.slice(PREFIX.length) : '';
  return /^[1-9]\d{0,14}$/.test(digits) ? Number(digits) : undefined;
}

/** Whether the line was answered well. */
export function isAnswered({ response }: BatchResult): boolean {
  return response !== null && response.status_code < 400;
}

/** Whether the fault was not the line's, so that another attempt might do. */
export function isServersFault({ response, error }: BatchResult): boolean {
  return response === null ? error?.code === FAILED : response.status_code >= 500;
}

/** The code of what failed again and again. */
export const FAILED = 'failed';

/** What is aborted, in messages. */
export const ANSWERING = 'the batch';
