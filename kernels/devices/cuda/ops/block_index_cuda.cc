#include <algorithm>
#include <stdexcept>
#include <string>

#include "../../../ops/block_index.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// Rows, lengths and tables are read on the device alone, as by CachedAttention there. How long the lists are
// follows from the width of the tables, not from how many blocks of the index are complete.
class BlockIndexOnCuda {
 public:
  BlockIndexOnCuda(const KernelInfo& info, CudaSession& session)
      : session_(session),
        node_(info.node()),
        op_(info, session.store->weights()),
        q_norm_(session.store->Require(op_.q_norm)),
        k_norm_(session.store->Require(op_.k_norm)) {}
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const BlockIndex op_;
  DeviceWeight q_norm_, k_norm_;
};

void BlockIndexOnCuda::Compute(KernelContext& context) {
  const BlockIndex::Sizes sizes = op_.CheckShapes(node_, context);
  if (sizes.dim > cuda::kMostIndexDim) {
    throw std::runtime_error(node_ + ": keys have " + std::to_string(sizes.dim) +
                             " dimensions; a GPU computes up to " + std::to_string(cuda::kMostIndexDim));
  }
  const auto floats = [&](BlockIndex::Input input) { return context.Input(input).As<float>(); };
  const auto ints = [&](BlockIndex::Input input) { return context.Input(input).As<int32_t>(); };
  const DType dtype = session_.dtype();
  const int64_t most = sizes.max_blocks * sizes.block_size / op_.block;
  cuda::BlockIndexArgs args;
  args.dtype = dtype;
  args.tokens = sizes.tokens;
  args.rows = sizes.rows;
  args.heads = static_cast<int>(op_.heads);
  args.dim = static_cast<int>(sizes.dim);
  args.pairs = static_cast<int>(sizes.rotated);
  args.block = op_.block;
  args.top = std::min(op_.top, std::max<int64_t>(1, most));
  args.blocks = sizes.blocks;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.q = floats(BlockIndex::kQ);
  args.k = floats(BlockIndex::kK);
  args.cos = floats(BlockIndex::kCos);
  args.sin = floats(BlockIndex::kSin);
  args.block_cos = floats(BlockIndex::kBlockCos);
  args.block_sin = floats(BlockIndex::kBlockSin);
  args.q_norm = q_norm_.Data(dtype);
  args.k_norm = k_norm_.Data(dtype);
  args.epsilon = op_.epsilon;
  args.norm_offset = op_.norm_offset;
  args.keys = PresentOnDevice(session_, node_, context, BlockIndex::kPastKeys, BlockIndex::kPresentKeys);
  args.row_starts = ints(BlockIndex::kRowStarts);
  args.past_lengths = ints(BlockIndex::kPastLengths);
  args.block_tables = ints(BlockIndex::kBlockTables);
  args.selected = context.Output<int32_t>(BlockIndex::kSelected, {sizes.tokens, args.top});
  if (sizes.tokens == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::BlockIndexWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchBlockIndex(args, session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeBlockIndex(CudaSession& session) {
  return MakeCudaOp<BlockIndexOnCuda>(session, BlockIndex::Schema(session.dtype()));
}

}  // namespace switchyard::ops
