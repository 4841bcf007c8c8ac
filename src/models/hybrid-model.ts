import { deltaNetCache } from '../nn/gated-delta-net.ts';
import type { Model } from './architecture.ts';
import type { HybridConfig } from './hybrid-config.ts';
import { describeText, type TextModelOptions } from './text-model.ts';

/** What follows alike from the config of every hybrid decoder; see `describeText`. */
export function describeHybrid(config: HybridConfig, options: TextModelOptions): Omit<Model, 'build'> {
  const model = describeText(config, options);
  const { linear_num_key_heads: keyHeads, linear_num_value_heads: valueHeads } = config;
  return {
    ...model,
    caches: model.caches.map((cache, layer) => (config.isLinear[layer] ? deltaNetCache(config) : cache)),
    geometry: {
      ...model.geometry,
      linearLayers: config.isLinear.filter(Boolean).length,
      linearHeads: `${keyHeads} x ${config.linear_key_head_dim}, ${valueHeads} x ${config.linear_value_head_dim}`,
    },
    work: {
      ...model.work,
      // A linear layer looks back on its state alone, however long the sequence.
      attention: model.work.attention.map((work, layer) => (config.isLinear[layer] ? 0 : work)),
    },
  };
}
