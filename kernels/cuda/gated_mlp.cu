// A gated MLP as a mixture of one expert: every token routes to it with its output gate as the weight. So the
// shared expert runs on the experts' kernels: matrix-vector products for few tokens, the grouped product for
// many.
#include "moe_internal.h"
#include "numeric.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int64_t kBatchedTokens =
    8;  // up to here reading the weights once a token costs less than planning tiles

// One warp for a token: index 0, weight sigmoid(x . gate), or 1 without a gate.
template <typename T>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    output_gate_kernel(const T* x, const T* gate, int64_t tokens, int hidden, int32_t* indices,
                       float* weights) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  const int lane = threadIdx.x % kWarpSize;
  if (token >= tokens) return;
  float sum = 0.0f;
  for (int i = lane; gate != nullptr && i < hidden; i += kWarpSize) {
    sum = fmaf(ToFloat(x[token * hidden + i]), ToFloat(gate[i]), sum);
  }
  sum = WarpSum(sum);
  if (lane == 0) {
    indices[token] = 0;
    weights[token] = gate != nullptr ? Sigmoid(sum) : 1.0f;
  }
}

ExpertsImplementation ImplementationFor(int64_t tokens) {
  return tokens <= kBatchedTokens ? ExpertsImplementation::kBatchedMm : ExpertsImplementation::kGroupedMm;
}

// Bytes of the routing, which lies before the experts' workspace: [tokens] indices, then [tokens] weights.
size_t RoutingBytes(int64_t tokens) { return static_cast<size_t>(CeilDiv(tokens * 8, 256)) * 256; }

}  // namespace

size_t GatedMlpWorkspaceBytes(const ExpertTable& mlp, int64_t tokens) {
  // A workspace for `tokens` also serves fewer, which may run on the other implementation.
  const int64_t few = tokens < kBatchedTokens ? tokens : kBatchedTokens;
  const size_t batched = MoeWorkspaceBytes(ExpertsImplementation::kBatchedMm, mlp, few, 1);
  const size_t grouped = MoeWorkspaceBytes(ExpertsImplementation::kGroupedMm, mlp, tokens, 1);
  return RoutingBytes(tokens) + (batched > grouped ? batched : grouped);
}

cudaError_t LaunchGatedMlp(const GatedMlpArgs& args, cudaStream_t stream) {
  if (args.mlp.num_experts != 1 || args.tokens < 0 || !IsSupported(args.mlp.dtype))
    return cudaErrorInvalidValue;
  if (args.tokens == 0) return cudaSuccess;
  if (args.workspace == nullptr || args.workspace_bytes < GatedMlpWorkspaceBytes(args.mlp, args.tokens)) {
    return cudaErrorInvalidValue;
  }
  int32_t* indices = static_cast<int32_t*>(args.workspace);
  float* weights = reinterpret_cast<float*>(indices + args.tokens);
  SWITCHYARD_RETURN_IF_CUDA_ERROR(DispatchType(args.mlp.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(output_gate_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(args.tokens, kWarps))),
                        dim3(kWarps * kWarpSize), 0, stream, static_cast<const T*>(args.x),
                        static_cast<const T*>(args.output_gate), args.tokens, args.mlp.hidden, indices,
                        weights);
  }));
  MoeExpertsArgs moe;
  moe.x = args.x;
  moe.tokens = args.tokens;
  moe.experts = args.mlp;
  moe.indices = indices;
  moe.weights = weights;
  moe.top_k = 1;
  moe.y = args.y;
  moe.y_dtype = args.y_dtype;
  moe.accumulate = args.accumulate;
  moe.workspace = static_cast<unsigned char*>(args.workspace) + RoutingBytes(args.tokens);
  moe.workspace_bytes = args.workspace_bytes - RoutingBytes(args.tokens);
  return ImplementationFor(args.tokens) == ExpertsImplementation::kBatchedMm
             ? LaunchMoeBatchedMm(moe, stream)
             : LaunchMoeGroupedMm(moe, stream);
}

}  // namespace switchyard::cuda
