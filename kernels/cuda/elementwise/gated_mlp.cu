// A gated MLP as a mixture of one expert: every token routes to it with its output gate as the weight. So the
// shared expert runs on the experts' kernels: matrix-vector products for few tokens, the grouped product for
// many.
#include "../common/numeric.cuh"
#include "../moe/moe_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kResidentBlocks = 2;  // with a number given, loads in flight get the registers they need
constexpr int64_t kBatchedTokens =
    8;  // up to here reading the weights once a token costs less than planning tiles

struct OutputGateParams {
  const void* x;  // [tokens, hidden]
  bool float32_inputs;
  const void* gate;  // [hidden], or null
  int64_t tokens;
  int hidden;
  int32_t* indices;  // [tokens]
  float* weights;    // [tokens]
};

// One warp for a token: index 0, weight sigmoid(x . gate), or 1 without a gate.
template <typename T, int kVector, typename X>
__global__ void __launch_bounds__(kWarps* kWarpSize, kResidentBlocks)
    output_gate_kernel(const OutputGateParams p) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  float weight = 1.0f;
  if (token < p.tokens && p.gate != nullptr) {
    const X* x = static_cast<const X*>(p.x) + token * p.hidden;
    weight = Sigmoid(
        WarpDot<T, kVector, X>(x, static_cast<const T*>(p.gate), p.hidden, [] { WaitForPrevious(); }));
  } else {
    WaitForPrevious();
  }
  if (token >= p.tokens) return;
  if (threadIdx.x % kWarpSize == 0) {
    p.indices[token] = 0;
    p.weights[token] = weight;
  }
}

cudaError_t LaunchOutputGate(const OutputGateParams& params, DType dtype, cudaStream_t stream) {
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kVector = kVectorOf<T>;
    const bool vectors = params.hidden % kVector == 0 && IsAligned16(params.x) && IsAligned16(params.gate);
    const auto launch = [&](auto kernel) {
      return LaunchDependentKernel(kernel, dim3(static_cast<unsigned>(CeilDiv(params.tokens, kWarps))),
                                   dim3(kWarps * kWarpSize), 0, stream, params);
    };
    if (params.float32_inputs) {
      return launch(vectors ? output_gate_kernel<T, kVector, float> : output_gate_kernel<T, 1, float>);
    }
    return launch(vectors ? output_gate_kernel<T, kVector, T> : output_gate_kernel<T, 1, T>);
  });
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

bool GatedMlpRounds(const ExpertTable& mlp, int64_t tokens) {
  return ImplementationFor(tokens) == ExpertsImplementation::kBatchedMm && BatchedMmRounds(mlp, 1);
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
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchOutputGate(
      {args.x, args.float32_inputs, args.output_gate, args.tokens, args.mlp.hidden, indices, weights},
      args.mlp.dtype, stream));
  MoeExpertsArgs moe;
  moe.x = args.x;
  moe.float32_inputs = args.float32_inputs;
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
