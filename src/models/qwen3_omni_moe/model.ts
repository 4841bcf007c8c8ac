import { z } from 'zod';
import { Scope } from '../../nn/scope.ts';
import { type Architecture, type MediaPart, type Model, tokenTypes } from '../architecture.ts';
import { fieldError, layerCount, parseConfig, size, tokenId, width } from '../config.ts';
import { type Config, parseQwen3Vl } from '../qwen3_vl_moe/config.ts';
import { mediaPart, still } from '../qwen3_vl_moe/media-part.ts';
import { AXES, conditionalLm, PREFIX, TOWER } from '../qwen3_vl_moe/model.ts';
import { mropePositions } from '../qwen3_vl_moe/positions.ts';
import { textFields } from '../text-config.ts';
import { describeText } from '../text-model.ts';
import { parseAudio } from './audio-config.ts';
import { soundPart } from './sound-part.ts';
import { timedVideos } from './timed-videos.ts';

/** HF `Qwen3OmniMoeTextConfig`. */
const textSchema = z.object({
  ...textFields,
  vocab_size: size.default(3584),
  num_hidden_layers: layerCount.default(28),
  num_attention_heads: size.default(28),
  num_key_value_heads: size.default(4),
  intermediate_size: width.default(18944),
  moe_intermediate_size: width.default(768),
  num_experts: textFields.num_experts.default(128),
  num_experts_per_tok: size.default(8),
  norm_topk_prob: z.boolean().default(true),
  attention_bias: z.boolean().default(false),
});

/** HF `Qwen3OmniMoeThinkerConfig`, of what is the thinker's own. */
const thinkerSchema = z.object({
  audio_config: z.record(z.string(), z.unknown()).default({}),
  audio_token_id: tokenId.default(151646),
  position_id_per_seconds: size.max(1000).default(25),
});

const AUDIO_TOWER = 'audio_tower';
/** What speaks. */
const UNREAD = ['talker', 'code2wav'];

/** The thinker of Qwen3-Omni, such as Qwen3-Omni-30B-A3B: text, pictures and sound in, text out; the decoder is that of Qwen3-VL. */
export const qwen3_omni_moe: Architecture = {
  modelType: 'qwen3_omni_moe',
  parse(json, file) {
    const { thinker_config: thinker } = json as { thinker_config?: unknown };
    if (typeof thinker !== 'object' || thinker === null)
      throw fieldError(file, 'thinker_config', thinker, 'an object of settings');
    return thinkerModel(thinker, `${file}: thinker_config`, 'qwen3_omni_moe');
  },
};

/** The thinker saved by itself: HF `Qwen3OmniMoeThinkerForConditionalGeneration`. */
export const qwen3_omni_moe_thinker: Architecture = {
  modelType: 'qwen3_omni_moe_thinker',
  parse: (json, file) => thinkerModel(json, file, 'qwen3_omni_moe_thinker'),
};

function thinkerModel(json: unknown, file: string, modelType: string): Model {
  const config = parseQwen3Vl(json, file, { schema: textSchema, theta: 1e6 });
  const model = {
    ...describeText(config.text, { modelType, prefix: PREFIX, towers: [TOWER, AUDIO_TOWER], unread: UNREAD }),
    subConfigs: ['audio_config', 'text_config', 'vision_config'],
    positionAxes: AXES,
    canonicalName,
    media: media(config, json, file),
  };
  return { ...model, build: (graph, variant) => conditionalLm(new Scope(graph, variant), config, model) };
}

/** Pictures as Qwen3-VL sees them, videos with a clock in their positions, and sound. */
function media(config: Config, json: unknown, file: string): MediaPart {
  const thinker = parseConfig(thinkerSchema, json, file);
  const seeing = mediaPart(config, TOWER);
  const placeholders = { ...seeing.placeholders, audio: thinker.audio_token_id };
  return {
    ...seeing,
    placeholders,
    tokenTypes: (row) => tokenTypes(row, placeholders),
    sound: soundPart(parseAudio(thinker.audio_config, file, config.text.hidden_size), AUDIO_TOWER),
    timedVideos: true,
    positions(types, grids) {
      const videos = timedVideos(grids, thinker.position_id_per_seconds);
      const visuals = { images: grids.images.map(still), videos };
      return mropePositions(types, visuals, config.vision.spatial_merge_size);
    },
  };
}

/** To the names of Qwen3-VL. */
function canonicalName(stored: string): string {
  return stored
    .replace(/^thinker\./, '')
    .replace(/^(?:model\.)?(?=(?:layers|embed_tokens|norm)\.)/, `${PREFIX}.`)
    .replace(/^visual\.merger_list\./, 'visual.deepstack_merger_list.')
    .replace(/^(visual\.(?:merger|deepstack_merger_list\.\d+)\.)ln_q\./, '$1norm.')
    .replace(/^(visual\.(?:merger|deepstack_merger_list\.\d+)\.)mlp\.0\./, '$1linear_fc1.')
    .replace(/^(visual\.(?:merger|deepstack_merger_list\.\d+)\.)mlp\.2\./, '$1linear_fc2.')
    .replace(/^visual\./, `${TOWER}.`);
}
