#include "cached_attention.h"
#include "ops_cpu.h"
#include "paged_rows_cpu.h"
#include "rows.h"
#include "selected_rows_cpu.h"

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
    PagedRows paged;
    DType dtype;  // of the caches
    char *keys, *values;
  };
  // Norms and rotates the new keys into the cache; copies the new values there.
  void Append(KernelContext& context, const Sizes& sizes, const Pass& pass, cpu::Workspace& workspace,
              ThreadPool& pool) const;
  cpu::HeadRotation Rotation(KernelContext& context, const Sizes& sizes,
                             const std::vector<float>& norm) const;
  // Tokens that see all before them by their rows, the others each by the blocks that were selected for it.
  void AttendSelected(KernelContext& context, const Sizes& sizes, const Pass& pass, cpu::AttentionArgs args,
                      cpu::Workspace& workspace, ThreadPool& pool) const;

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
                                 .places = pass.paged.places.data(),
                                 .head_stride = pass.paged.layout.head_stride,
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

void CachedAttentionOnCpu::AttendSelected(KernelContext& context, const Sizes& sizes, const Pass& pass,
                                          cpu::AttentionArgs args, cpu::Workspace& workspace,
                                          ThreadPool& pool) const {
  const SelectedRows rows(
      node_, context.Input(Attributes::kSelected).As<int32_t>(),
      {.block = op_.selected_block, .most = sizes.selected, .kv_heads = op_.kv_heads, .paged = pass.paged});
  const cpu::Workspace::Mark mark = workspace.mark();
  args.rows = rows.whole().data();
  args.row_count = static_cast<int64_t>(rows.whole().size());
  cpu::Attention(args, workspace, pool);
  workspace.Rewind(mark);
  args.rows = rows.selecting().data();
  args.row_count = static_cast<int64_t>(rows.selecting().size());
  args.layout = rows.layout();
  cpu::Attention(args, workspace, pool);
}

void CachedAttentionOnCpu::Compute(KernelContext& context) {
  const Sizes sizes = op_.CheckShapes(node_, context);
  const ort::TensorView q = context.Input(Attributes::kQ);
  Pass pass;
  pass.paged = ReadPagedRows(node_,
                             {.row_starts = context.Input(Attributes::kRowStarts).As<int32_t>(),
                              .past_lengths = context.Input(Attributes::kPastLengths).As<int32_t>(),
                              .block_tables = context.Input(Attributes::kBlockTables).As<int32_t>()},
                             {.tokens = sizes.tokens,
                              .rows = sizes.rows,
                              .blocks = sizes.blocks,
                              .heads = op_.kv_heads,
                              .block_size = sizes.block_size,
                              .head_dim = sizes.head_dim,
                              .max_blocks = sizes.max_blocks});
  pass.dtype = static_cast<DType>(context.Input(Attributes::kPastKey).type);
  pass.keys = Present(context, Attributes::kPastKey, Attributes::kPresentKey);
  pass.values = Present(context, Attributes::kPastValue, Attributes::kPresentValue);
  ThreadPool& pool = *session_.pool;
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
  const cpu::AttentionArgs args = {.q = rotated,
                                   .k = pass.keys,
                                   .v = pass.values,
                                   .dtype = pass.dtype,
                                   .layout = pass.paged.layout,
                                   .out = context.Output<float>(Attributes::kAttended, q.shape),
                                   .rows = pass.paged.rows.data(),
                                   .row_count = sizes.rows,
                                   .heads = op_.heads,
                                   .kv_heads = op_.kv_heads,
                                   .head_dim = sizes.head_dim,
                                   .causal = true,
                                   .window = op_.window > 0 ? op_.window : 0,
                                   .scale = op_.scale,
                                   .precision = op_.precision};
  if (op_.selected_block > 0) return AttendSelected(context, sizes, pass, args, *workspace, pool);
  cpu::Attention(args, *workspace, pool);
}

}  // namespace

ort::OpPtr MakeCachedAttention(SessionContext& session, DType cache) {
  return MakeCpuOp<CachedAttentionOnCpu>(session, CachedAttention::Schema(cache));
}

}  // namespace switchyard::ops
