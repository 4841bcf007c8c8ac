// Op CachedAttention: new tokens q [B, S, heads · D], k, v [B, S, kv_heads · D] are appended to a cache and
// attend to it causally.
#pragma once
#include <string>
#include <vector>

#include "attention.h"

namespace switchyard::ops {

// Further inputs: past_key, past_value [B, kv_heads, capacity, D]; last_positions int32 [B], the index of
// each row's newest token; total_length int32 [], the largest number of positions in use, newest included.
// Outputs: attended [B, S, heads · D], present_key, present_value as the past ones; where an output's memory
// is the past's, the cache grows in place.
//
// A single token of a row is at last_positions[b]. Several follow one past that all rows share, of
// total_length
// - S positions; rows that have fewer than S new tokens are padded on the right, and what the padding attends
// to is of no use to anyone. Attribute `window`: how many of the newest positions a query sees; -1: all.
class CachedAttention {
 public:
  static const OpSchema kSchema;
  CachedAttention(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  // What the shapes of one call say.
  struct Sizes {
    int64_t batch, tokens, head_dim, capacity;
  };
  Sizes ReadSizes(KernelContext& context) const;
  // Where each row's new tokens go.
  std::vector<cpu::AttentionRow> ReadRows(KernelContext& context, const Sizes& sizes) const;
  // Output `index` with the contents of input `past`, and the new tokens of input `x` in their places.
  const float* Extend(KernelContext& context, size_t x, size_t past, size_t index, const Sizes& sizes,
                      const std::vector<cpu::AttentionRow>& rows, cpu::ThreadPool& pool) const;
  cpu::HeadStrides CacheStrides(const Sizes& sizes) const;

  SessionContext& session_;
  std::string node_;
  AttentionAttributes attributes_;
  int64_t window_;
};

}  // namespace switchyard::ops
