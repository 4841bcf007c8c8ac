#include "gpu_cached_attention.h"

#include "../../common/float_types.h"

namespace switchyard::ops {
namespace {

using Attributes = CachedAttentionAttributes;

}  // namespace

OpSchema GpuCachedAttention::Schema(DType dtype) {
  const auto cache = static_cast<ort::ElementType>(dtype);
  return {"CachedAttention",
          {{ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {ort::kFloat},
           {cache},
           {cache},
           {ort::kInt32},
           {ort::kInt32},
           {ort::kInt32}},
          {{ort::kFloat}, {cache}, {cache}}};
}

GpuCachedAttention::GpuCachedAttention(const KernelInfo& info, GpuSession& session)
    : session_(session),
      node_(info.node()),
      attributes_(info, session.store->weights()),
      q_norm_(RequireNorm(attributes_.q_norm)),
      k_norm_(RequireNorm(attributes_.k_norm)) {}

DeviceMatrix GpuCachedAttention::RequireNorm(const StoredTensor* norm) const {
  if (norm == nullptr) return {};
  const int64_t size = norm->shape[0];
  return session_.store->Require(Slice(*norm, 0, 1, size, size, false));
}

void* GpuCachedAttention::Present(KernelContext& context, size_t past, size_t index) const {
  const ort::TensorView before = context.Input(past);
  void* cache = context.Output<void>(index, before.shape);
  if (cache == before.data) return cache;
  const auto bytes = static_cast<size_t>(before.Count() * DTypeSize(session_.dtype()));
  CheckLaunch(node_, cudaMemcpyAsync(cache, before.data, bytes, cudaMemcpyDeviceToDevice,
                                     session_.device->cuda_stream()));
  return cache;
}

void GpuCachedAttention::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = attributes_.CheckShapes(node_, context);
  const ort::TensorView q = context.Input(Attributes::kQ);
  const DType dtype = session_.dtype();
  cuda::CachedAttentionArgs args;
  args.dtype = dtype;
  args.tokens = sizes.tokens;
  args.rows = sizes.rows;
  args.heads = static_cast<int>(attributes_.heads);
  args.kv_heads = static_cast<int>(attributes_.kv_heads);
  args.head_dim = static_cast<int>(sizes.head_dim);
  args.pairs = static_cast<int>(sizes.rotated);
  args.blocks = sizes.blocks;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.q = q.As<float>();
  args.k = context.Input(Attributes::kK).As<float>();
  args.v = context.Input(Attributes::kV).As<float>();
  args.cos = context.Input(Attributes::kCos).As<float>();
  args.sin = context.Input(Attributes::kSin).As<float>();
  args.q_norm = q_norm_.Data(dtype);
  args.k_norm = k_norm_.Data(dtype);
  args.epsilon = attributes_.epsilon;
  args.keys = Present(context, Attributes::kPastKey, Attributes::kPresentKey);
  args.values = Present(context, Attributes::kPastValue, Attributes::kPresentValue);
  args.row_starts = context.Input(Attributes::kRowStarts).As<int32_t>();
  args.past_lengths = context.Input(Attributes::kPastLengths).As<int32_t>();
  args.block_tables = context.Input(Attributes::kBlockTables).As<int32_t>();
  args.window = attributes_.window > 0 ? attributes_.window : 0;
  args.scale = attributes_.scale;
  args.out = context.Output<float>(Attributes::kAttended, q.shape);
  if (q.Count() == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::CachedAttentionWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchCachedAttention(args, session_.device->cuda_stream()));
}

}  // namespace switchyard::ops
