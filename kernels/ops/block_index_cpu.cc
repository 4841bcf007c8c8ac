#include <algorithm>

#include "block_index.h"
#include "ops_cpu.h"
#include "paged_rows_cpu.h"
#include "rows.h"

namespace switchyard::ops {
namespace {

using Attributes = BlockIndex;

// The weights of a norm as they multiply.
std::vector<float> Widened(const WeightRef& norm, float offset) {
  std::vector<float> values(static_cast<size_t>(norm.cols));
  Widen(*norm.values, values.data());
  for (float& value : values) value += offset;
  return values;
}

class BlockIndexOnCpu {
 public:
  BlockIndexOnCpu(const KernelInfo& info, SessionContext& session)
      : session_(session),
        node_(info.node()),
        op_(info, *session.store),
        q_norm_(Widened(op_.q_norm, op_.norm_offset)),
        k_norm_(Widened(op_.k_norm, op_.norm_offset)) {}
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const BlockIndex op_;
  const std::vector<float> q_norm_, k_norm_;
};

void BlockIndexOnCpu::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = op_.CheckShapes(node_, context);
  const auto floats = [&](Attributes::Input input) { return context.Input(input).As<float>(); };
  const PagedRows paged =
      ReadPagedRows(node_,
                    {.row_starts = context.Input(Attributes::kRowStarts).As<int32_t>(),
                     .past_lengths = context.Input(Attributes::kPastLengths).As<int32_t>(),
                     .block_tables = context.Input(Attributes::kBlockTables).As<int32_t>()},
                    {.tokens = sizes.tokens,
                     .rows = sizes.rows,
                     .blocks = sizes.blocks,
                     .heads = 1,
                     .block_size = sizes.block_size,
                     .head_dim = sizes.dim,
                     .max_blocks = sizes.max_blocks});
  const DType dtype = static_cast<DType>(context.Input(Attributes::kPastKeys).type);
  char* keys = Present(context, Attributes::kPastKeys, Attributes::kPresentKeys);
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  float* queries = (*workspace).Take<float>(sizes.tokens * op_.heads * sizes.dim);
  cpu::Rotary({.x = floats(Attributes::kQ),
               .out = queries,
               .tokens = sizes.tokens,
               .heads = op_.heads,
               .head_dim = sizes.dim,
               .rotation = {.norm = q_norm_.data(),
                            .epsilon = op_.epsilon,
                            .cos = floats(Attributes::kCos),
                            .sin = floats(Attributes::kSin),
                            .pairs = sizes.rotated}},
              pool);
  cpu::CacheAppend({.x = floats(Attributes::kK),
                    .cache = keys,
                    .dtype = dtype,
                    .places = paged.places.data(),
                    .head_stride = 0,
                    .tokens = sizes.tokens,
                    .heads = 1,
                    .head_dim = sizes.dim,
                    .rotation = nullptr},
                   *workspace, pool);
  // No token sees more blocks than are complete, whatever the budget.
  int64_t complete = 1;
  for (int64_t r = 0; r < sizes.rows; ++r)
    complete = std::max(complete, paged.rows[static_cast<size_t>(r)].keys / op_.block);
  const int64_t top = std::min(op_.top, complete);
  const cpu::BlockIndexArgs args = {
      .q = queries,
      .keys = keys,
      .dtype = dtype,
      .layout = paged.layout,
      .rows = paged.rows.data(),
      .row_count = sizes.rows,
      .tokens = sizes.tokens,
      .heads = op_.heads,
      .dim = sizes.dim,
      .block = op_.block,
      .top = top,
      .rotation = {.norm = k_norm_.data(),
                   .epsilon = op_.epsilon,
                   .cos = floats(Attributes::kBlockCos),
                   .sin = floats(Attributes::kBlockSin),
                   .pairs = sizes.rotated},
      .selected = context.Output<int32_t>(Attributes::kSelected, {sizes.tokens, top})};
  cpu::BlockIndex(args, *workspace, pool);
}

}  // namespace

ort::OpPtr MakeBlockIndex(SessionContext& session, DType keys) {
  return MakeCpuOp<BlockIndexOnCpu>(session, BlockIndex::Schema(keys));
}

}  // namespace switchyard::ops
