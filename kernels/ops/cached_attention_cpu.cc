#include <algorithm>
#include <stdexcept>
#include <utility>

#include "cached_attention.h"
#include "ops_cpu.h"
#include "rows.h"

namespace switchyard::ops {
namespace {

using Attributes = CachedAttention;

// The weights of a norm as they multiply.
std::vector<float> Widened(const WeightRef& norm, float offset) {
  if (norm.empty()) return {};
  std::vector<float> values(static_cast<size_t>(norm.cols));
  Widen(*norm.values, values.data());
  for (float& value : values) value += offset;
  return values;
}

class CachedAttentionOnCpu {
 public:
  CachedAttentionOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  using Sizes = CachedAttention::Sizes;
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
  const CachedAttention op_;
  std::vector<float> q_norm_, k_norm_;  // empty: none
};

CachedAttentionOnCpu::CachedAttentionOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session),
      node_(info.node()),
      op_(info, *session.store),
      q_norm_(Widened(op_.q_norm, op_.norm_offset)),
      k_norm_(Widened(op_.k_norm, op_.norm_offset)) {}

std::vector<cpu::AttentionRow> CachedAttentionOnCpu::ReadRows(KernelContext& context,
                                                              const Sizes& sizes) const {
  const int32_t* lengths = context.Input(Attributes::kPastLengths).As<int32_t>();
  const int64_t capacity = sizes.max_blocks * sizes.block_size;
  const std::vector<RowTokens> row_tokens =
      ReadRowStarts(node_, context.Input(Attributes::kRowStarts).As<int32_t>(), sizes.rows, sizes.tokens);
  std::vector<cpu::AttentionRow> rows;
  for (int64_t r = 0; r < sizes.rows; r++) {
    const auto [first, tokens] = row_tokens[static_cast<size_t>(r)];
    if (lengths[r] < 0 || lengths[r] + tokens > capacity) {
      throw std::runtime_error(node_ + ": input 'past_lengths' is " + std::to_string(lengths[r]) + " for " +
                               RowText(r) + ", which has " + std::to_string(tokens) + " new tokens; its " +
                               std::to_string(sizes.max_blocks) + " blocks of input 'block_tables' hold " +
                               std::to_string(capacity) + " positions");
    }
    rows.push_back({.first = first, .tokens = tokens, .past = lengths[r], .keys = lengths[r] + tokens});
  }
  return rows;
}

void CachedAttentionOnCpu::CheckTable(const cpu::AttentionRow& row, int64_t index, const int32_t* table,
                                      const Sizes& sizes) const {
  for (int64_t i = 0; i * sizes.block_size < row.keys; i++) {
    if (table[i] >= 0 && table[i] < sizes.blocks) continue;
    throw std::runtime_error(node_ + ": input 'block_tables' is " + std::to_string(table[i]) + " for block " +
                             std::to_string(i) + " of " + RowText(index) + ", which has " +
                             std::to_string(row.keys) + " positions; the pool has blocks 0 to " +
                             std::to_string(sizes.blocks - 1));
  }
}

std::vector<int64_t> CachedAttentionOnCpu::FindPlaces(const Pass& pass, const Sizes& sizes) const {
  const cpu::BlockLayout layout = Layout(pass, sizes);
  std::vector<int64_t> places;
  std::vector<std::pair<int32_t, int64_t>> written;  // blocks, and the rows that write to them
  for (size_t r = 0; r < pass.rows.size(); r++) {
    const cpu::AttentionRow& row = pass.rows[r];
    const int64_t index = static_cast<int64_t>(r);
    const int32_t* table = pass.tables + index * sizes.max_blocks;
    if (row.tokens == 0) continue;
    CheckTable(row, index, table, sizes);
    for (int64_t position = row.past; position < row.keys; position++) {
      const int32_t block = table[position / sizes.block_size];
      const int64_t within = position % sizes.block_size;
      if (within == 0 || position == row.past) written.emplace_back(block, index);
      places.push_back(block * layout.block_stride + within * layout.token_stride);
    }
  }
  std::sort(written.begin(), written.end());
  for (size_t i = 1; i < written.size(); i++) {
    if (written[i].first != written[i - 1].first) continue;
    throw std::runtime_error(node_ + ": input 'block_tables' has " + RowText(written[i - 1].second) +
                             " and " + RowText(written[i].second) + " write to block " +
                             std::to_string(written[i].first));
  }
  return places;
}

cpu::BlockLayout CachedAttentionOnCpu::Layout(const Pass& pass, const Sizes& sizes) const {
  const int64_t head = sizes.block_size * sizes.head_dim;
  return {.block_size = sizes.block_size,
          .block_stride = op_.kv_heads * head,
          .head_stride = head,
          .token_stride = sizes.head_dim,
          .tables = pass.tables,
          .table_size = sizes.max_blocks};
}

cpu::HeadRotation CachedAttentionOnCpu::Rotation(KernelContext& context, const Sizes& sizes,
                                                 const std::vector<float>& norm) const {
  return {.norm = norm.empty() ? nullptr : norm.data(),
          .epsilon = op_.epsilon,
          .cos = context.Input(Attributes::kCos).As<float>(),
          .sin = context.Input(Attributes::kSin).As<float>(),
          .pairs = sizes.rotated};
}

void CachedAttentionOnCpu::Append(KernelContext& context, const Sizes& sizes, const Pass& pass,
                                  cpu::Workspace& workspace, ThreadPool& pool) const {
  const cpu::HeadRotation rotation = Rotation(context, sizes, k_norm_);
  cpu::CacheAppendArgs append = {.x = context.Input(Attributes::kK).As<float>(),
                                 .cache = pass.keys,
                                 .dtype = pass.dtype,
                                 .places = pass.places.data(),
                                 .head_stride = sizes.block_size * sizes.head_dim,
                                 .tokens = sizes.tokens,
                                 .heads = op_.kv_heads,
                                 .head_dim = sizes.head_dim,
                                 .rotation = &rotation};
  cpu::CacheAppend(append, workspace, pool);
  append.x = context.Input(Attributes::kV).As<float>();
  append.cache = pass.values;
  append.rotation = nullptr;
  cpu::CacheAppend(append, workspace, pool);
}

void CachedAttentionOnCpu::Compute(KernelContext& context) {
  const Sizes sizes = op_.CheckShapes(node_, context);
  const ort::TensorView q = context.Input(Attributes::kQ);
  Pass pass;
  pass.rows = ReadRows(context, sizes);
  pass.tables = context.Input(Attributes::kBlockTables).As<int32_t>();
  pass.places = FindPlaces(pass, sizes);
  pass.dtype = static_cast<DType>(context.Input(Attributes::kPastKey).type);
  pass.keys = Present(context, Attributes::kPastKey, Attributes::kPresentKey);
  pass.values = Present(context, Attributes::kPastValue, Attributes::kPresentValue);
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  float* rotated = (*workspace).Take<float>(q.Count());
  cpu::Rotary({.x = q.As<float>(),
               .out = rotated,
               .tokens = sizes.tokens,
               .heads = op_.heads,
               .head_dim = sizes.head_dim,
               .rotation = Rotation(context, sizes, q_norm_)},
              pool);
  Append(context, sizes, pass, *workspace, pool);
  cpu::Attention({.q = rotated,
                  .k = pass.keys,
                  .v = pass.values,
                  .dtype = pass.dtype,
                  .layout = Layout(pass, sizes),
                  .out = context.Output<float>(Attributes::kAttended, q.shape),
                  .rows = pass.rows.data(),
                  .row_count = sizes.rows,
                  .heads = op_.heads,
                  .kv_heads = op_.kv_heads,
                  .head_dim = sizes.head_dim,
                  .causal = true,
                  .window = op_.window > 0 ? op_.window : 0,
                  .scale = op_.scale,
                  .precision = op_.precision},
                 *workspace, pool);
}

}  // namespace

ort::OpPtr MakeCachedAttention(SessionContext& session, DType cache) {
  return MakeCpuOp<CachedAttentionOnCpu>(session, CachedAttention::Schema(cache));
}

}  // namespace switchyard::ops
