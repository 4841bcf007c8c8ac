// Op CachedAttention: the new tokens of several rows, as projected, are normed and rotated, appended to the
// rows' caches and attend to these causally.
#pragma once
#include <string>
#include <vector>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

// Inputs: q [T, heads · D], k, v [T, kv_heads · D], the rows' tokens one row after the other; cos, sin [T,
// R], the angles that turn the first 2R values of a head; past_key, past_value [blocks, kv_heads, block_size,
// D], the pool that all caches lie in, of float32, float16 or bfloat16; row_starts int32 [rows + 1], each
// row's first token, T at the end; past_lengths int32 [rows], the positions of each row that are filled;
// block_tables int32 [rows, max_blocks], the block in which positions block_size · i and following of a row
// lie. What a table says beyond the row's last position is not looked at. Outputs: attended [T, heads · D],
// present_key, present_value as the past ones; where an output's memory is the past's, the pool is written in
// place.
//
// Attributes `q_norm`, `k_norm`: weights [D] of an RMS norm over each head, before the rotation, with
// `epsilon`; -1: none. Attribute `window`: how many of the newest positions a query sees; -1: all.
//
// Rows may share blocks of their pasts; a run fails where two rows would write to one block.
class CachedAttention {
 public:
  static OpSchema Schema(DType cache);
  CachedAttention(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  using Sizes = CachedAttentionAttributes::Sizes;
  struct Pass {
    std::vector<cpu::AttentionRow> rows;
    const int32_t* tables;        // [rows, max_blocks]
    std::vector<int64_t> places;  // [T]: elements from a cache's beginning to where head 0 of a token goes
    DType dtype;                  // of the caches
    char *keys, *values;
  };
  std::vector<cpu::AttentionRow> ReadRows(KernelContext& context, const Sizes& sizes) const;
  // Where each token's keys and values go; checks the tables on the way.
  std::vector<int64_t> FindPlaces(const Pass& pass, const Sizes& sizes) const;
  void CheckTable(const cpu::AttentionRow& row, int64_t index, const int32_t* table,
                  const Sizes& sizes) const;
  cpu::BlockLayout Layout(const Pass& pass, const Sizes& sizes) const;
  // Norms and rotates the new keys into the cache; copies the new values there.
  void Append(KernelContext& context, const Sizes& sizes, const Pass& pass, cpu::Workspace& workspace,
              ThreadPool& pool) const;
  cpu::HeadRotation Rotation(KernelContext& context, const Sizes& sizes,
                             const std::vector<float>& norm) const;

  SessionContext& session_;
  std::string node_;
  CachedAttentionAttributes attributes_;
  std::vector<float> q_norm_, k_norm_;  // empty: none
};

}  // namespace switchyard::ops
