import { progressDisabled } from '../hub/environment.ts';
import type { CausalLM, CompileMode, ImageTextToText, Tuning, TuningProgress } from '../index.ts';
import type { Io } from './io.ts';

type Model = CausalLM | ImageTextToText;

/**
 * Measures what `--compile [mode]` and `--experts auto` go by before the model is used, and shows how far that is.
 * @param compile as the option has it; `true` without a mode
 */
export async function measureAhead(
  model: Model,
  compile: CompileMode | true | undefined,
  io: Io,
): Promise<void> {
  if (compile !== undefined)
    await shown(io, (options) => model.compile({ mode: compile === true ? 'default' : compile, ...options }));
  if (Object.values(model.getExpertsImplementation()).includes('auto')) await measureExperts(model, io);
}

/** What `auto` goes by; undefined for a model without experts. */
export function measureExperts(model: Model, io: Io): Promise<Tuning | undefined> {
  return shown(io, (options) => model.measureExperts(options));
}

interface Shown {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: TuningProgress) => void;
}

/** On a terminal a line that is gone in the end, elsewhere one at the beginning; none where nothing is measured. */
async function shown<T>({ stderr, stop }: Io, measure: (options: Shown) => Promise<T>): Promise<T> {
  let isBegun = false;
  const isSilent = progressDisabled(process.env);
  const onProgress = ({ tokens, done, total }: TuningProgress) => {
    if (isSilent) return;
    if (stderr.isTTY)
      stderr.write(`\r\x1b[Kmeasuring the experts backends: ${done} of ${total}, passes of ${tokens} tokens`);
    else if (!isBegun)
      stderr.write('measuring the experts backends, once for this model, in at most half a minute\n');
    isBegun = true;
  };
  try {
    return await measure({ signal: stop, onProgress });
  } finally {
    if (isBegun && stderr.isTTY) stderr.write('\r\x1b[K');
  }
}
