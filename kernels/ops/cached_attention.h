// Op CachedAttention: new tokens q [B, S, heads · D], k, v [B, S, kv_heads · D], as projected, are normed and
// rotated, appended to a cache and attend to it causally.
#pragma once
#include <string>
#include <vector>

#include "attention.h"

namespace switchyard::ops {

// Further inputs: cos, sin [B, S, D / 2], the angles of each token; past_key, past_value [B, kv_heads,
// capacity, D]; last_positions int32 [B], the index of each row's newest token; total_length int32 [], the
// largest number of positions in use, newest included. Outputs: attended [B, S, heads · D], present_key,
// present_value as the past ones; where an output's memory is the past's, the cache grows in place.
// Attributes `q_norm`, `k_norm`: weights [D] of an RMS norm over each head, before the rotation, with
// `epsilon`; -1: none.
//
// A single token of a row is at last_positions[b]. Several follow one past that all rows share, of
// total_length - S positions; rows that have fewer than S new tokens are padded on the right, and what the
// padding attends to is of no use to anyone. Attribute `window`: how many of the newest positions a query
// sees; -1: all.
class CachedAttention {
 public:
  static const OpSchema kSchema;
  CachedAttention(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  using Sizes = CachedAttentionAttributes::Sizes;
  struct Buffers {
    std::vector<cpu::AttentionRow> rows;
    float* rotated;  // queries as they attend, [B, S, heads · D]
    float *keys, *values;
  };
  // Where each row's new tokens go.
  std::vector<cpu::AttentionRow> ReadRows(KernelContext& context, const Sizes& sizes) const;
  // Output `index` with the contents of input `past`, ready to be extended.
  float* Present(KernelContext& context, size_t past, size_t index) const;
  cpu::HeadStrides CacheStrides(const Sizes& sizes) const;
  // Norms and rotates the queries, and the new keys into the cache; copies the new values there.
  void Append(KernelContext& context, const Sizes& sizes, const Buffers& buffers,
              cpu::ThreadPool& pool) const;

  SessionContext& session_;
  std::string node_;
  CachedAttentionAttributes attributes_;
  std::vector<float> q_norm_, k_norm_;  // empty: none
};

}  // namespace switchyard::ops
