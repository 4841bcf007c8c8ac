#include "cached_attention.h"

#include <cstring>

namespace switchyard::ops {
namespace {

enum InputIndex : size_t { kQ, kK, kV, kPastKey, kPastValue, kLastPositions, kTotalLength };
enum OutputIndex : size_t { kAttended, kPresentKey, kPresentValue };

}  // namespace

const OpSchema CachedAttention::kSchema = {
    "CachedAttention",
    {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}, {ort::kFloat}, {ort::kFloat}, {ort::kInt32}, {ort::kInt32}},
    {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}};

CachedAttention::CachedAttention(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info), window_(info.IntOr("window", -1)) {
  if (window_ != -1 && window_ < 1) {
    info.Fail("attribute 'window' is " + std::to_string(window_) + "; expected at least 1, or -1 for none");
  }
}

CachedAttention::Sizes CachedAttention::ReadSizes(KernelContext& context) const {
  const std::vector<int64_t> q = context.Input(kQ).shape;
  const std::vector<int64_t> past = context.Input(kPastKey).shape;
  const Sizes sizes = {.batch = q.empty() ? 0 : q[0],
                       .tokens = q.size() < 2 ? 0 : q[1],
                       .head_dim = HeadSize(node_, "q", q, attributes_.heads),
                       .capacity = past.size() == 4 ? past[2] : 0};
  const std::vector<int64_t> fresh = {sizes.batch, sizes.tokens, attributes_.kv_heads * sizes.head_dim};
  const std::vector<int64_t> cache = {sizes.batch, attributes_.kv_heads, sizes.capacity, sizes.head_dim};
  CheckShape(node_, "k", context.Input(kK).shape, fresh);
  CheckShape(node_, "v", context.Input(kV).shape, fresh);
  CheckShape(node_, "past_key", past, cache);
  CheckShape(node_, "past_value", context.Input(kPastValue).shape, cache);
  CheckShape(node_, "last_positions", context.Input(kLastPositions).shape, {sizes.batch});
  CheckShape(node_, "total_length", context.Input(kTotalLength).shape, {});
  return sizes;
}

std::vector<cpu::AttentionRow> CachedAttention::ReadRows(KernelContext& context, const Sizes& sizes) const {
  const int32_t* last_positions = context.Input(kLastPositions).As<int32_t>();
  const int64_t total_length = *context.Input(kTotalLength).As<int32_t>();
  std::vector<cpu::AttentionRow> rows;
  for (int64_t b = 0; b < sizes.batch; b++) {
    const int64_t start = sizes.tokens == 1 ? last_positions[b] : total_length - sizes.tokens;
    if (start < 0 || start + sizes.tokens > sizes.capacity) {
      throw std::runtime_error(node_ + ": row " + std::to_string(b) + " has " + std::to_string(sizes.tokens) +
                               " new tokens from position " + std::to_string(start) +
                               " on; the cache holds positions 0 to " + std::to_string(sizes.capacity - 1));
    }
    rows.push_back({.keys = start + sizes.tokens, .past = start});
  }
  return rows;
}

cpu::HeadStrides CachedAttention::CacheStrides(const Sizes& sizes) const {
  const int64_t head = sizes.capacity * sizes.head_dim;
  return {.row = attributes_.kv_heads * head, .token = sizes.head_dim, .head = head};
}

const float* CachedAttention::Extend(KernelContext& context, size_t x, size_t past, size_t index,
                                     const Sizes& sizes, const std::vector<cpu::AttentionRow>& rows,
                                     cpu::ThreadPool& pool) const {
  const ort::TensorView before = context.Input(past);
  float* cache = context.Output<float>(index, before.shape);
  if (cache != before.As<float>()) {
    std::memcpy(cache, before.As<float>(), static_cast<size_t>(before.Count()) * sizeof(float));
  }
  cpu::CacheAppend({.x = context.Input(x).As<float>(),
                    .x_strides = TokenMajor(sizes.tokens, attributes_.kv_heads, sizes.head_dim),
                    .cache = cache,
                    .cache_strides = CacheStrides(sizes),
                    .batch = sizes.batch,
                    .tokens = sizes.tokens,
                    .heads = attributes_.kv_heads,
                    .head_dim = sizes.head_dim,
                    .rows = rows.data()},
                   pool);
  return cache;
}

void CachedAttention::Compute(KernelContext& context) {
  const Sizes sizes = ReadSizes(context);
  const std::vector<cpu::AttentionRow> rows = ReadRows(context, sizes);
  OrtThreadPool pool(context, session_.threads);
  const float* keys = Extend(context, kK, kPastKey, kPresentKey, sizes, rows, pool);
  const float* values = Extend(context, kV, kPastValue, kPresentValue, sizes, rows, pool);
  const ort::TensorView q = context.Input(kQ);
  const cpu::HeadStrides q_strides = TokenMajor(sizes.tokens, attributes_.heads, sizes.head_dim);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Attention({.q = q.As<float>(),
                  .q_strides = q_strides,
                  .k = keys,
                  .k_strides = CacheStrides(sizes),
                  .v = values,
                  .v_strides = CacheStrides(sizes),
                  .out = context.Output<float>(kAttended, q.shape),
                  .out_strides = q_strides,
                  .batch = sizes.batch,
                  .tokens = sizes.tokens,
                  .heads = attributes_.heads,
                  .kv_heads = attributes_.kv_heads,
                  .head_dim = sizes.head_dim,
                  .rows = rows.data(),
                  .causal = true,
                  .window = window_ > 0 ? window_ : 0,
                  .scale = attributes_.scale,
                  .precision = attributes_.precision},
                 *workspace, pool);
}

}  // namespace switchyard::ops
