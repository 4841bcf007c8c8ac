// What the sources of batched_mm share.
#pragma once
#include "../common/numeric.cuh"
#include "moe_internal.h"

namespace switchyard::cuda {

struct GateUpParams {
  const void* x;
  const int32_t* indices;
  KernelPointers gate, up;
  void* activations;
  int64_t stride;
  int hidden, intermediate, top_k, num_experts;
};

struct DownParams {
  const void* activations;
  const int32_t* indices;
  const float* weights;
  KernelPointers down;
  void* y;
  int64_t stride;
  int hidden, intermediate, top_k;
  DType y_dtype;
  bool accumulate;
};

// The block's threads bring the pointers to all experts nearer, before it is known which are chosen.
__device__ inline void PrefetchPointers(const GateUpParams& p) {
  constexpr int kInLine = kPrefetchBytes / static_cast<int>(sizeof(void*));
  for (int i = static_cast<int>(threadIdx.x) * kInLine; i < p.num_experts;
       i += static_cast<int>(blockDim.x) * kInLine) {
    if (p.gate.table != nullptr) Prefetch(p.gate.table + i);
    if (p.up.table != nullptr) Prefetch(p.up.table + i);
  }
}

// y[token, column] = sum, or more by it.
__device__ inline void StoreSum(const DownParams& p, int token, int column, float sum) {
  const int64_t index = static_cast<int64_t>(token) * p.hidden + column;
  if (p.accumulate) sum += LoadAs(p.y, p.y_dtype, index);
  StoreAs(p.y, p.y_dtype, index, sum);
}

// batched_mm over plain weights that PlainGemvsTake (moe_gemv.cu); x is as args say.
cudaError_t LaunchPlainGemvs(const GateUpParams& gate_up, const DownParams& down, const MoeExpertsArgs& args,
                             cudaStream_t stream);

// Whether LaunchCodedTiles takes these sizes: 16-bit activations, k's that are multiples of kCodedWidth, and
// shared memory for a token's activations.
cudaError_t FitsCodedTiles(const MoeExpertsArgs& args, bool* fits);
// batched_mm over quantized matrices, 16 rows at a time on tensor cores (moe_batched_coded.cu).
cudaError_t LaunchCodedTiles(const GateUpParams& gate_up, const DownParams& down, DType dtype, int64_t tokens,
                             cudaStream_t stream);

}  // namespace switchyard::cuda
