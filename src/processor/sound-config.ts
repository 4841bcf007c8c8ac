import * as z from 'zod';
import { ConfigError, expected, issuesText } from '../errors.ts';
import type { SoundConfig } from '../media/types.ts';

/** The feature extractor that is served. */
export const WHISPER = 'WhisperFeatureExtractor';

/** Spectra of a second at most; real models take 100. Each is worked out, and kept, before the model sees a sound. */
const MOST_SPECTRA = 200;

/** HF `WhisperFeatureExtractor`. */
const schema = z.looseObject({
  feature_size: z.int().positive().max(256).default(80),
  n_fft: z.int().min(16).max(4096).default(400),
  hop_length: z.int().positive().max(65_536).default(160),
  sampling_rate: z.int().min(16_000, 'at least 16000, as bands reach to 8000 Hz').max(48_000).default(16_000),
  dither: z.literal(0, 'only 0 is supported').default(0),
});

/** Settings as found: a whole file, or the field `path` of one. */
interface Source {
  readonly value: Record<string, unknown>;
  readonly file: string;
  readonly path?: string;
}

/** @throws ConfigError naming file, field and value */
export function soundConfig(source: Source): SoundConfig {
  const given = Object.fromEntries(Object.entries(source.value).filter(([, value]) => value !== null));
  const { success, data, error } = schema.safeParse(given);
  if (!success) throw new ConfigError(`${source.file}: ${issuesText(error.issues, given, source.path)}`);
  const { feature_size: bands, n_fft: window, hop_length: hop, sampling_rate: samplingRate } = data;
  if (hop * MOST_SPECTRA < samplingRate)
    throw new ConfigError(
      expected(
        `${source.file}: ${source.path ? `${source.path}.` : ''}hop_length`,
        hop,
        `at least sampling_rate / ${MOST_SPECTRA}`,
      ),
    );
  return { bands, window, hop, samplingRate };
}
