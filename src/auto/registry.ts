import { ConfigError, expected, show } from '../errors.ts';
import type { Architecture } from '../models/architecture.ts';
import { qwen2 } from '../models/qwen2.ts';
import { qwen2_moe } from '../models/qwen2_moe.ts';
import { qwen3 } from '../models/qwen3.ts';
import { qwen3_5, qwen3_5_moe, qwen3_5_moe_text, qwen3_5_text } from '../models/qwen3_5_moe/model.ts';
import { qwen3_moe } from '../models/qwen3_moe.ts';
import { qwen3_next } from '../models/qwen3_next.ts';
import { qwen3_omni_moe, qwen3_omni_moe_thinker } from '../models/qwen3_omni_moe/model.ts';
import { qwen3_vl_moe } from '../models/qwen3_vl_moe/model.ts';
import { qwen4_exp, qwen4_exp_text } from '../models/qwen4_exp/model.ts';
import { typeHint } from './nearest-type.ts';

/** Every architecture by its HF `model_type`. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  qwen2_moe,
  qwen3_moe,
  qwen3_vl_moe,
  qwen3_next,
  qwen3_5_moe,
  qwen3_5_moe_text,
  qwen4_exp,
  qwen4_exp_text,
  qwen3_omni_moe,
  qwen3_omni_moe_thinker,
  qwen2,
  qwen3,
  qwen3_5,
  qwen3_5_text,
};

/** What `model_type` may be, in alphabetical order. */
export const MODEL_TYPES: readonly string[] = Object.keys(ARCHITECTURES).sort();

/**
 * The architecture a config.json asks for.
 * @throws ConfigError for a missing or unknown `model_type`, with the list of known ones and the nearest
 */
export function findArchitecture(json: unknown, file: string): Architecture {
  const modelType = (json as { model_type?: unknown } | null)?.model_type;
  if (typeof modelType !== 'string')
    throw new ConfigError(expected(`${file}: model_type`, modelType, `one of ${MODEL_TYPES.join(', ')}`));
  const architecture = Object.hasOwn(ARCHITECTURES, modelType) ? ARCHITECTURES[modelType] : undefined;
  if (architecture) return architecture;
  const unknown = `${file}: model_type is ${show(modelType)}, which Switchyard does not know; supported are ${MODEL_TYPES.join(', ')}`;
  throw new ConfigError(unknown + typeHint(modelType, MODEL_TYPES));
}
