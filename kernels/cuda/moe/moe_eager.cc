// eager: the readable reference on the device. Gathers the inputs in expert order, then loops over the active
// experts.
#include <vector>

#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

void* Row(void* base, int64_t row, int64_t width, DType dtype) {
  return static_cast<unsigned char*>(base) + row * width * static_cast<int64_t>(ElementSize(dtype));
}

// out[rows, n] = a[rows, k] . w[n, k]^T
cudaError_t Multiply(GemmContext& gemm, const ExpertTable& experts, const void* a, int64_t rows,
                     const void* w, int64_t w_stride, int64_t n, int64_t k, void* out, cudaStream_t stream) {
  LinearArgs linear;
  linear.dtype = experts.dtype;
  linear.m = rows;
  linear.n = n;
  linear.k = k;
  linear.a = a;
  linear.a_stride = k;
  linear.w = w;
  linear.w_stride = w_stride;
  linear.transposed = experts.transposed;
  linear.coded = experts.coded;
  linear.out = out;
  linear.out_dtype = experts.dtype;
  linear.out_stride = n;
  return LaunchLinear(gemm, linear, stream);
}

// One expert's rows of the sorted inputs, from inputs to outputs.
cudaError_t RunExpert(GemmContext& gemm, const ExpertTable& experts, const MoeWorkspace& space, int expert,
                      int64_t begin, int64_t rows, cudaStream_t stream) {
  const DType dtype = experts.dtype;
  const int64_t hidden = experts.hidden;
  const int64_t intermediate = experts.intermediate;
  const void* x = Row(space.gathered, begin, hidden, dtype);
  void* gate = Row(space.gate, begin, intermediate, dtype);
  void* up = Row(space.up, begin, intermediate, dtype);
  void* activations = Row(space.activations, begin, intermediate, dtype);
  void* out = Row(space.outputs, begin, hidden, dtype);
  SWITCHYARD_RETURN_IF_CUDA_ERROR(Multiply(gemm, experts, x, rows, experts.gate.host[expert],
                                           experts.gate_stride, intermediate, hidden, gate, stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(Multiply(gemm, experts, x, rows, experts.up.host[expert],
                                           experts.gate_stride, intermediate, hidden, up, stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchSiluMul(gate, up, dtype, rows * intermediate, activations, stream));
  return Multiply(gemm, experts, activations, rows, experts.down.host[expert], experts.down_stride, hidden,
                  intermediate, out, stream);
}

}  // namespace

cudaError_t LaunchMoeEager(GemmContext& gemm, const MoeExpertsArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckMoeArgs(ExpertsImplementation::kEager, args));
  if (args.tokens == 0) return cudaSuccess;
  const ExpertTable& experts = args.experts;
  const int64_t pairs = args.tokens * args.top_k;
  const MoeWorkspace space =
      CarveMoeWorkspace(ExpertsImplementation::kEager, experts, args.tokens, args.top_k, args.workspace);
  const DevicePlan& plan = space.plan;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchMoePlan(args.indices, pairs, experts.num_experts, plan, stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchGatherRows(args.x, experts.dtype, plan.sorted_pairs, pairs,
                                                   args.top_k, experts.hidden, space.gathered, stream));

  std::vector<int32_t> offsets(experts.num_experts + 1);
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(
      offsets.data(), plan.offsets, offsets.size() * sizeof(int32_t), cudaMemcpyDeviceToHost, stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream));
  for (int e = 0; e < experts.num_experts; ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows == 0) continue;
    SWITCHYARD_RETURN_IF_CUDA_ERROR(RunExpert(gemm, experts, space, e, offsets[e], rows, stream));
  }
  return LaunchMoeCombine(space.outputs, plan.positions, args, stream);
}

}  // namespace switchyard::cuda
