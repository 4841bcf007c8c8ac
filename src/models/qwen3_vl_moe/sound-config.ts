import * as z from 'zod';
import { ConfigError, issueText } from '../../errors.ts';
import type { SoundConfig } from '../../media/types.ts';

/** The feature extractor that is served. */
export const WHISPER = 'WhisperFeatureExtractor';

/** HF `WhisperFeatureExtractor`. */
const schema = z.looseObject({
  feature_size: z.int().positive().max(1024).default(80),
  n_fft: z.int().min(16).max(65_536).default(400),
  hop_length: z.int().positive().max(65_536).default(160),
  sampling_rate: z
    .int()
    .min(16_000, 'at least 16000, as bands reach to 8000 Hz')
    .max(768_000)
    .default(16_000),
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
  if (!success)
    throw new ConfigError(
      `${source.file}: ${error.issues.map((issue) => issueText(issue, given, source.path)).join('; ')}`,
    );
  const { feature_size: bands, n_fft: window, hop_length: hop, sampling_rate: samplingRate } = data;
  return { bands, window, hop, samplingRate };
}
