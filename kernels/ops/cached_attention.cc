#include "cached_attention.h"

#include <cstring>

#include "widen.h"

namespace switchyard::ops {
namespace {

using Attributes = CachedAttentionAttributes;

std::vector<float> Widened(const StoredTensor* norm) {
  if (norm == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(norm->shape[0]));
  Widen(*norm, values.data());
  return values;
}

}  // namespace

const OpSchema CachedAttention::kSchema = {"CachedAttention",
                                           {{ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kFloat},
                                            {ort::kInt32},
                                            {ort::kInt32}},
                                           {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}};

CachedAttention::CachedAttention(const KernelInfo& info, SessionContext& session)
    : session_(session),
      node_(info.node()),
      attributes_(info, *session.store),
      q_norm_(Widened(attributes_.q_norm)),
      k_norm_(Widened(attributes_.k_norm)) {}

std::vector<cpu::AttentionRow> CachedAttention::ReadRows(KernelContext& context, const Sizes& sizes) const {
  const int32_t* last_positions = context.Input(Attributes::kLastPositions).As<int32_t>();
  const int64_t total_length = *context.Input(Attributes::kTotalLength).As<int32_t>();
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

float* CachedAttention::Present(KernelContext& context, size_t past, size_t index) const {
  const ort::TensorView before = context.Input(past);
  float* cache = context.Output<float>(index, before.shape);
  if (cache != before.As<float>()) {
    std::memcpy(cache, before.As<float>(), static_cast<size_t>(before.Count()) * sizeof(float));
  }
  return cache;
}

void CachedAttention::Append(KernelContext& context, const Sizes& sizes, const Buffers& buffers,
                             cpu::ThreadPool& pool) const {
  const cpu::HeadStrides q_strides = TokenMajor(sizes.tokens, attributes_.heads, sizes.head_dim);
  const cpu::HeadStrides fresh = TokenMajor(sizes.tokens, attributes_.kv_heads, sizes.head_dim);
  const cpu::HeadStrides cache = CacheStrides(sizes);
  cpu::RotaryArgs rotary = {.x = context.Input(Attributes::kQ).As<float>(),
                            .x_strides = q_strides,
                            .out = buffers.rotated,
                            .out_strides = q_strides,
                            .batch = sizes.batch,
                            .tokens = sizes.tokens,
                            .heads = attributes_.heads,
                            .head_dim = sizes.head_dim,
                            .cos = context.Input(Attributes::kCos).As<float>(),
                            .sin = context.Input(Attributes::kSin).As<float>(),
                            .norm = q_norm_.empty() ? nullptr : q_norm_.data(),
                            .epsilon = attributes_.epsilon,
                            .rows = nullptr};
  cpu::Rotary(rotary, pool);
  rotary.x = context.Input(Attributes::kK).As<float>();
  rotary.x_strides = fresh;
  rotary.out = buffers.keys;
  rotary.out_strides = cache;
  rotary.heads = attributes_.kv_heads;
  rotary.norm = k_norm_.empty() ? nullptr : k_norm_.data();
  rotary.rows = buffers.rows.data();
  cpu::Rotary(rotary, pool);
  cpu::CacheAppend({.x = context.Input(Attributes::kV).As<float>(),
                    .x_strides = fresh,
                    .cache = buffers.values,
                    .cache_strides = cache,
                    .batch = sizes.batch,
                    .tokens = sizes.tokens,
                    .heads = attributes_.kv_heads,
                    .head_dim = sizes.head_dim,
                    .rows = buffers.rows.data()},
                   pool);
}

void CachedAttention::Compute(KernelContext& context) {
  const Sizes sizes = attributes_.CheckShapes(node_, context);
  const ort::TensorView q = context.Input(Attributes::kQ);
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  const Buffers buffers = {.rows = ReadRows(context, sizes),
                           .rotated = (*workspace).Take<float>(q.Count()),
                           .keys = Present(context, Attributes::kPastKey, Attributes::kPresentKey),
                           .values = Present(context, Attributes::kPastValue, Attributes::kPresentValue)};
  Append(context, sizes, buffers, pool);
  const cpu::HeadStrides q_strides = TokenMajor(sizes.tokens, attributes_.heads, sizes.head_dim);
  const cpu::HeadStrides cache = CacheStrides(sizes);
  cpu::Attention({.q = buffers.rotated,
                  .q_strides = q_strides,
                  .k = buffers.keys,
                  .k_strides = cache,
                  .v = buffers.values,
                  .v_strides = cache,
                  .out = context.Output<float>(Attributes::kAttended, q.shape),
                  .out_strides = q_strides,
                  .batch = sizes.batch,
                  .tokens = sizes.tokens,
                  .heads = attributes_.heads,
                  .kv_heads = attributes_.kv_heads,
                  .head_dim = sizes.head_dim,
                  .rows = buffers.rows.data(),
                  .causal = true,
                  .window = attributes_.window > 0 ? attributes_.window : 0,
                  .scale = attributes_.scale,
                  .precision = attributes_.precision},
                 *workspace, pool);
}

}  // namespace switchyard::ops
