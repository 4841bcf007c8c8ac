#include <string>

#include "../../../common/float_types.h"
#include "../../../ops/cached_attention.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// Rows, lengths and tables are read on the device alone, so a captured run replays with any of them. What
// they say is not checked there: a row that does not fit its table gets zeros instead of an error, and blocks
// that the pool does not have are neither read nor written, nor are those that a query cannot see.
class CachedAttentionOnCuda {
 public:
  CachedAttentionOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const CachedAttention op_;
  DeviceWeight q_norm_, k_norm_;
};

CachedAttentionOnCuda::CachedAttentionOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session),
      node_(info.node()),
      op_(info, session.store->weights()),
      q_norm_(session.store->Require(op_.q_norm)),
      k_norm_(session.store->Require(op_.k_norm)) {}

void CachedAttentionOnCuda::Compute(KernelContext& context) {
  const CachedAttention::Sizes sizes = op_.CheckShapes(node_, context);
  const ort::TensorView q = context.Input(CachedAttention::kQ);
  const DType dtype = session_.dtype();
  const auto present = [&](size_t past, size_t index) {
    return PresentOnDevice(session_, node_, context, past, index);
  };
  cuda::CachedAttentionArgs args;
  args.dtype = dtype;
  args.tokens = sizes.tokens;
  args.rows = sizes.rows;
  args.heads = static_cast<int>(op_.heads);
  args.kv_heads = static_cast<int>(op_.kv_heads);
  args.head_dim = static_cast<int>(sizes.head_dim);
  args.pairs = static_cast<int>(sizes.rotated);
  args.blocks = sizes.blocks;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.q = q.As<float>();
  args.k = context.Input(CachedAttention::kK).As<float>();
  args.v = context.Input(CachedAttention::kV).As<float>();
  args.cos = context.Input(CachedAttention::kCos).As<float>();
  args.sin = context.Input(CachedAttention::kSin).As<float>();
  args.q_norm = q_norm_.Data(dtype);
  args.k_norm = k_norm_.Data(dtype);
  args.epsilon = op_.epsilon;
  args.norm_offset = op_.norm_offset;
  args.keys = present(CachedAttention::kPastKey, CachedAttention::kPresentKey);
  args.values = present(CachedAttention::kPastValue, CachedAttention::kPresentValue);
  args.row_starts = context.Input(CachedAttention::kRowStarts).As<int32_t>();
  args.past_lengths = context.Input(CachedAttention::kPastLengths).As<int32_t>();
  args.block_tables = context.Input(CachedAttention::kBlockTables).As<int32_t>();
  if (op_.selected_block > 0) {
    args.selected = context.Input(CachedAttention::kSelected).As<int32_t>();
    args.selected_blocks = sizes.selected;
    args.selected_block = op_.selected_block;
  }
  args.window = op_.window > 0 ? op_.window : 0;
  args.scale = op_.scale;
  args.out = context.Output<float>(CachedAttention::kAttended, q.shape);
  if (q.Count() == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::CachedAttentionWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  args.counters = session_.device->attention_counters();
  CheckLaunch(node_, cuda::LaunchCachedAttention(args, session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeCachedAttention(CudaSession& session) {
  return MakeCudaOp<CachedAttentionOnCuda>(session, CachedAttention::Schema(session.dtype()));
}

}  // namespace switchyard::ops
