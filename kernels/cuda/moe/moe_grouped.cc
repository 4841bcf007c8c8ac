// grouped_mm: plan, gate and up, down, combine. No step depends on the routing for its launch shape, and the
// host reads nothing back.
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

cudaError_t LaunchGroupedMm(const GroupedMmParams& params, const MoeExpertsArgs& args, bool gate_up,
                            int max_tiles, cudaStream_t stream) {
  const ExpertTable& experts = args.experts;
  const auto launch = [&](auto launcher) {
    return launcher(params, experts.dtype, gate_up, experts.transposed, max_tiles, stream);
  };
  if (experts.dtype == DType::kFloat32 || !AllowsVectors(args)) return launch(LaunchGroupedMmPlain);
  if (args.use_wgmma && !experts.coded) {
    const cudaError_t status = launch(LaunchGroupedMmSm90);
    if (status != cudaErrorNotSupported) return status;
  }
  return launch(LaunchGroupedMmTensorCore);
}

}  // namespace

cudaError_t LaunchMoeGroupedMm(const MoeExpertsArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckMoeArgs(ExpertsImplementation::kGroupedMm, args));
  if (args.tokens == 0) return cudaSuccess;
  const ExpertTable& experts = args.experts;
  const MoeWorkspace space =
      CarveMoeWorkspace(ExpertsImplementation::kGroupedMm, experts, args.tokens, args.top_k, args.workspace);
  const DevicePlan& plan = space.plan;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      LaunchMoePlan(args.indices, args.tokens * args.top_k, experts.num_experts, plan, stream));

  GroupedMmParams gate_up = {};
  gate_up.tiles = plan.tiles;
  gate_up.num_tiles = plan.num_tiles;
  gate_up.sorted_pairs = plan.sorted_pairs;
  gate_up.a = args.x;
  gate_up.b0 = ToKernel(experts.gate);
  gate_up.b1 = ToKernel(experts.up);
  gate_up.out = space.activations;
  gate_up.b_stride = experts.gate_stride;
  gate_up.coded = experts.coded;
  gate_up.n = experts.intermediate;
  gate_up.k = experts.hidden;
  gate_up.top_k = args.top_k;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchGroupedMm(gate_up, args, true, plan.max_tiles, stream));

  GroupedMmParams down = gate_up;
  down.a = space.activations;
  down.b0 = ToKernel(experts.down);
  down.b1 = {};
  down.out = space.outputs;
  down.b_stride = experts.down_stride;
  down.n = experts.hidden;
  down.k = experts.intermediate;
  down.top_k = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchGroupedMm(down, args, false, plan.max_tiles, stream));
  return LaunchMoeCombine(space.outputs, plan.positions, args, stream);
}

}  // namespace switchyard::cuda
