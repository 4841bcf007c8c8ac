// Argument checks, expert tables and the workspace layout of the three experts implementations.
#include "../coded_matrix.h"
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

// Hands out consecutive 256-byte aligned pieces of a workspace, or only counts when the base is null.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<unsigned char*>(base)) {}

  template <typename T>
  T* Take(int64_t count, size_t element_size) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += static_cast<size_t>(CeilDiv(count * static_cast<int64_t>(element_size), 256)) * 256;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  unsigned char* base_;
  size_t used_ = 0;
};

bool AllAligned16(const ExpertPointers& pointers, int num_experts) {
  for (int e = 0; e < num_experts; ++e) {
    if (!IsAligned16(pointers.host[e])) return false;
  }
  return true;
}

const void* Offset(const void* base, int64_t elements, DType dtype) {
  return static_cast<const unsigned char*>(base) + elements * static_cast<int64_t>(ElementSize(dtype));
}

void SetPointers(const void** host, const void* const* device, ExpertTable* table) {
  const int count = table->num_experts;
  const auto part = [&](int index) {
    return ExpertPointers{device == nullptr ? nullptr : device + index * count, host + index * count};
  };
  table->gate = part(0);
  table->up = part(1);
  table->down = part(2);
}

}  // namespace

void FillSeparateExperts(const void* const* gate, const void* const* up, const void* const* down,
                         const void** host, const void* const* device, ExpertTable* table) {
  const int count = table->num_experts;
  for (int e = 0; e < count; ++e) {
    host[e] = gate[e];
    host[count + e] = up[e];
    host[2 * count + e] = down[e];
  }
  table->transposed = false;
  table->gate_stride = table->hidden;
  table->down_stride = table->intermediate;
  SetPointers(host, device, table);
}

void FillFusedExperts(const void* gate_up, const void* down, const void** host, const void* const* device,
                      ExpertTable* table) {
  const int count = table->num_experts;
  const int64_t hidden = table->hidden;
  const int64_t intermediate = table->intermediate;
  const int64_t up_offset = table->transposed ? intermediate : intermediate * hidden;
  for (int e = 0; e < count; ++e) {
    host[e] = Offset(gate_up, e * 2 * intermediate * hidden, table->dtype);
    host[count + e] = Offset(host[e], up_offset, table->dtype);
    host[2 * count + e] = Offset(down, e * intermediate * hidden, table->dtype);
  }
  table->gate_stride = table->transposed ? 2 * intermediate : hidden;
  table->down_stride = table->transposed ? hidden : intermediate;
  SetPointers(host, device, table);
}

MoeWorkspace CarveMoeWorkspace(ExpertsImplementation implementation, const ExpertTable& experts,
                               int64_t tokens, int top_k, void* base) {
  const int64_t pairs = tokens * top_k;
  const size_t size = ElementSize(experts.dtype);
  const bool eager = implementation == ExpertsImplementation::kEager;
  Carver carver(base);
  MoeWorkspace space = {};
  space.activations = carver.Take<void>(pairs * experts.intermediate, size);
  if (implementation != ExpertsImplementation::kBatchedMm) {
    space.plan.max_tiles = MoeMaxTiles(pairs, experts.num_experts);
    space.plan.offsets = carver.Take<int32_t>(experts.num_experts + 1, sizeof(int32_t));
    space.plan.sorted_pairs = carver.Take<int32_t>(pairs, sizeof(int32_t));
    space.plan.tiles = carver.Take<MoeTile>(space.plan.max_tiles, sizeof(MoeTile));
    space.plan.num_tiles = carver.Take<int32_t>(1, sizeof(int32_t));
    space.plan.positions = carver.Take<int32_t>(pairs, sizeof(int32_t));
    space.plan.block_counts =
        carver.Take<int32_t>(int64_t{kMostPlanBlocks} * experts.num_experts, sizeof(int32_t));
    space.outputs = carver.Take<void>(pairs * experts.hidden, size);
  }
  if (eager) {
    space.gathered = carver.Take<void>(pairs * experts.hidden, size);
    space.gate = carver.Take<void>(pairs * experts.intermediate, size);
    space.up = carver.Take<void>(pairs * experts.intermediate, size);
  }
  space.bytes = carver.used();
  return space;
}

size_t MoeWorkspaceBytes(ExpertsImplementation implementation, const ExpertTable& experts, int64_t tokens,
                         int top_k) {
  return CarveMoeWorkspace(implementation, experts, tokens, top_k, nullptr).bytes;
}

cudaError_t CheckMoeArgs(ExpertsImplementation implementation, const MoeExpertsArgs& args) {
  const ExpertTable& experts = args.experts;
  const bool sizes = args.tokens >= 0 && args.top_k > 0 && experts.num_experts > 0 && experts.hidden > 0 &&
                     experts.intermediate > 0 && args.tokens * args.top_k <= INT32_MAX / 2;
  const bool types =
      IsSupported(experts.dtype) && (args.y_dtype == experts.dtype || args.y_dtype == DType::kFloat32);
  if (!sizes || !types || experts.gate.host == nullptr || experts.up.host == nullptr ||
      experts.down.host == nullptr || (experts.num_experts > 1 && experts.gate.device == nullptr)) {
    return cudaErrorInvalidValue;
  }
  const bool coded_sizes = !experts.transposed && experts.hidden % kCodeChunk == 0 &&
                           experts.intermediate % kCodeChunk == 0 && IsAligned16(args.x);
  if (experts.coded && !coded_sizes) return cudaErrorInvalidValue;
  const bool rounds = implementation == ExpertsImplementation::kBatchedMm && IsAligned16(args.x) &&
                      BatchedMmRounds(experts, args.top_k);
  if (args.float32_inputs && experts.dtype != DType::kFloat32 && !rounds) return cudaErrorInvalidValue;
  if (args.tokens == 0) return cudaSuccess;
  const size_t needed = MoeWorkspaceBytes(implementation, experts, args.tokens, args.top_k);
  const bool pointers = args.x != nullptr && args.y != nullptr && args.indices != nullptr &&
                        args.weights != nullptr && args.workspace != nullptr && IsAligned16(args.workspace);
  return pointers && args.workspace_bytes >= needed ? cudaSuccess : cudaErrorInvalidValue;
}

bool RowsAllowVectors(const ExpertTable& experts) {
  const int64_t vector = 16 / static_cast<int64_t>(ElementSize(experts.dtype));
  return experts.hidden % vector == 0 && experts.intermediate % vector == 0 &&
         experts.gate_stride % vector == 0 && experts.down_stride % vector == 0 &&
         AllAligned16(experts.gate, experts.num_experts) && AllAligned16(experts.up, experts.num_experts) &&
         AllAligned16(experts.down, experts.num_experts);
}

bool AllowsVectors(const MoeExpertsArgs& args) {
  const bool inputs = IsAligned16(args.x) && IsAligned16(args.y);
  return inputs && (args.experts.coded || RowsAllowVectors(args.experts));
}

}  // namespace switchyard::cuda
