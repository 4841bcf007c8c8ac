// What the experts' source files share: kernel parameters, the workspace and the steps the launchers are
// composed of.
#pragma once
#include "../common/launch.h"
#include "../kernels.h"

namespace switchyard::cuda {

// The matrices of all experts as a kernel sees them: a device array of pointers, or one pointer passed by
// value.
struct KernelPointers {
  const void* const* table;
  const void* single;

  template <typename T>
  SWITCHYARD_HOST_DEVICE const T* At(int expert) const {
    return static_cast<const T*>(table != nullptr ? table[expert] : single);
  }
};

inline KernelPointers ToKernel(const ExpertPointers& pointers) {
  return {pointers.device, pointers.device == nullptr ? pointers.host[0] : nullptr};
}

// Blocks that share the planning of many pairs.
constexpr int kMostPlanBlocks = 32;

// A plan on the device, as LaunchMoePlan writes it; see MoeHostPlan.
struct DevicePlan {
  int32_t* offsets;       // [num_experts + 1]
  int32_t* sorted_pairs;  // [pairs]
  int32_t* positions;     // [pairs]: where each lies in sorted_pairs
  int32_t* block_counts;  // [kMostPlanBlocks, num_experts], while planning
  MoeTile* tiles;         // [max_tiles]
  int32_t* num_tiles;     // [1]
  int max_tiles;
};

// Where everything lies in a workspace; `bytes` is its size. Pointers are null when the base is.
struct MoeWorkspace {
  DevicePlan plan;
  void* gathered;     // [pairs, hidden]: eager only, the inputs in sorted order
  void* gate;         // [pairs, intermediate]: eager only
  void* up;           // [pairs, intermediate]: eager only
  void* activations;  // [pairs, intermediate]
  void* outputs;      // [pairs, hidden], in sorted order
  size_t bytes;
};
MoeWorkspace CarveMoeWorkspace(ExpertsImplementation implementation, const ExpertTable& experts,
                               int64_t tokens, int top_k, void* base);

// cudaErrorInvalidValue unless sizes, types, pointers and workspace fit together.
cudaError_t CheckMoeArgs(ExpertsImplementation implementation, const MoeExpertsArgs& args);

// True when every row of every matrix, and the inputs, allow 16-byte accesses; of quantized matrices, the
// inputs.
bool AllowsVectors(const MoeExpertsArgs& args);

// The same of the matrices alone, which are not coded.
bool RowsAllowVectors(const ExpertTable& experts);

// Whether moe_gemv.cu takes batched_mm over these weights, where inputs begin on 16 bytes.
bool PlainGemvsTake(const ExpertTable& experts, int top_k);

// One launch, or two for many pairs: counts, offsets, the sorted permutation and the tiles of indices
// [pairs].
cudaError_t LaunchMoePlan(const int32_t* indices, int64_t pairs, int num_experts, const DevicePlan& plan,
                          cudaStream_t stream);

// One grouped product. Its rows are the sorted pairs; row i multiplies with the matrices of its expert.
struct GroupedMmParams {
  const MoeTile* tiles;
  const int32_t* num_tiles;
  const int32_t* sorted_pairs;
  const void* a;          // rows of k elements; row i is a[sorted_pairs[i] / top_k] when gather, else a[i]
  KernelPointers b0, b1;  // gate and up, or down and nothing
  void* out;              // rows of n elements
  int64_t b_stride;
  bool coded;  // b0 and b1 are quantized
  int n;
  int k;
  int top_k;  // > 0: gather
};

// out = silu(a . b0^T) * (a . b1^T) when gate_up, else a . b0^T. The tensor-core kernel needs 16-bit types
// and 16-byte rows.
cudaError_t LaunchGroupedMmTensorCore(const GroupedMmParams& params, DType dtype, bool gate_up,
                                      bool transposed, int max_tiles, cudaStream_t stream);
// The same on sm_90a's warpgroup instructions; cudaErrorNotSupported on other devices, in builds without code
// for sm_90a and for transposed weights.
cudaError_t LaunchGroupedMmSm90(const GroupedMmParams& params, DType dtype, bool gate_up, bool transposed,
                                int max_tiles, cudaStream_t stream);
cudaError_t LaunchGroupedMmPlain(const GroupedMmParams& params, DType dtype, bool gate_up, bool transposed,
                                 int max_tiles, cudaStream_t stream);

// y[t] = sum over j of weights[t, j] * outputs[positions[t * top_k + j]], (plus y[t]).
cudaError_t LaunchMoeCombine(const void* outputs, const int32_t* positions, const MoeExpertsArgs& args,
                             cudaStream_t stream);

// Eager's element-wise steps: out[i] = x[sorted_pairs[i] / top_k], and out = silu(gate) * up.
cudaError_t LaunchGatherRows(const void* x, DType dtype, const int32_t* sorted_pairs, int64_t pairs,
                             int top_k, int hidden, void* out, cudaStream_t stream);
cudaError_t LaunchSiluMul(const void* gate, const void* up, DType dtype, int64_t count, void* out,
                          cudaStream_t stream);

}  // namespace switchyard::cuda
