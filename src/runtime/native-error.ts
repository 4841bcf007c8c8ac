/** What the addon throws, as Switchyard's errors. */
import { CheckpointError, EngineError, SwitchyardError } from '../errors.ts';
import { exhaustedMessage } from './memory.ts';

/** `code` of the error a cancelled run rejects with. */
const CANCELLED = 'SWITCHYARD_CANCELLED';
/** `code` of the error for a weights file that does not hold what it should, or no longer what it did. */
const WEIGHT_FILE = 'SWITCHYARD_WEIGHT_FILE';

/** Whether a run, upload or recording was ended by `cancelRun`. */
export function isCancelled(cause: unknown): boolean {
  return (cause as { code?: string }).code === CANCELLED;
}

/** The error to throw for what a call of the addon threw. */
export function nativeError(cause: unknown): SwitchyardError {
  if (cause instanceof SwitchyardError) return cause;
  const { message, code } = cause as Error & { code?: string };
  if (code === WEIGHT_FILE) return new CheckpointError(message, { cause });
  return new EngineError(exhaustedMessage(message) ?? message, { cause });
}

/** Does native work, which may also refuse at once; what it throws becomes one of Switchyard's errors. */
export async function guard<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw nativeError(cause);
  }
}
