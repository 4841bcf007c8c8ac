// batched_mm over quantized matrices: the two launches of moe_batched_mm.cu, a block for 16 rows at a time,
// whose codes its warps share out. Kinds and groups that coded_mma.cuh does not know go slowly in the same
// kernels.
#include "../common/coded_mma.cuh"
#include "moe_batched.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kGateUpWarps = 8;
constexpr int kGateUpParts = kGateUpWarps / 2;  // of k, for each of gate and up
constexpr int kGateUpBlocks = 3;                // a multiprocessor holds at least
// Of a down block: many for a single token, whose blocks are few, else several blocks a multiprocessor.
constexpr int kAloneWarps = 16;
constexpr int kDownWarps = 8;
constexpr int kDownBlocks = 2;

// Shared memory: a ring for every warp, the activations, and what else there is.
size_t GateUpBytes(int hidden) { return size_t{kGateUpWarps} * kRingBytes + StagedInputs::Bytes(1, hidden); }

// A down block's jobs are a token's experts times parts of k.
SWITCHYARD_HOST_DEVICE constexpr int DownParts(int warps, int top_k) {
  return top_k < warps ? warps / top_k : 1;
}
constexpr int DownWarps(int64_t tokens) { return tokens == 1 ? kAloneWarps : kDownWarps; }
size_t DownBytes(int warps, int intermediate, int top_k) {
  return static_cast<size_t>(warps) * kRingBytes + StagedInputs::Bytes(top_k, intermediate) +
         (size_t{kCodedRows} * DownParts(warps, top_k) + 1) * top_k * sizeof(float);
}

// Puts a warp's 16 sums side by side.
__device__ void KeepSums(const float (&sums)[1][2], float* to) {
  if (threadIdx.x % 4 != 0) return;
  to[CodedTile::Group()] = sums[0][0];
  to[CodedTile::Group() + 8] = sums[0][1];
}

// One block for 16 outputs of one pair: half of the warps take gate, half up, and each a part of k.
template <typename T>
__global__ void __launch_bounds__(kGateUpWarps* kWarpSize, kGateUpBlocks)
    moe_coded_gate_up_kernel(const GateUpParams p) {
  const int pair = blockIdx.x;
  const int row = blockIdx.y * kCodedRows;
  const int warp = threadIdx.x / kWarpSize;
  const int part = warp % kGateUpParts;
  const int steps = CodedSteps(p.hidden);
  unsigned char* shared = SharedMemory();
  PrefetchPointers(p);
  WaitForPrevious();
  const int expert = p.indices[pair];
  const void* matrix = warp < kGateUpParts ? p.gate.At<void>(expert) : p.up.At<void>(expert);
  const CodedTile tile(matrix, row, p.intermediate, p.hidden, steps * part / kGateUpParts,
                       steps * (part + 1) / kGateUpParts, shared + warp * kRingBytes);
  tile.Start();
  const StagedInputs inputs(shared + kGateUpWarps * kRingBytes, 1, p.hidden);
  const T* x = static_cast<const T*>(p.x) + static_cast<int64_t>(pair / p.top_k) * p.hidden;
  inputs.Fill(x, 1, 1, p.hidden);
  __syncthreads();
  float sums[1][2];
  tile.Multiply<T, 1>(inputs, 0, x, 1, sums);
  // Each warp's ring is its own and no longer needed.
  KeepSums(sums, reinterpret_cast<float*>(shared + warp * kRingBytes));
  __syncthreads();
  const int output = row + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= kCodedRows || output >= p.intermediate) return;
  float totals[2] = {0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < kGateUpWarps; ++i)
    totals[i / kGateUpParts] += reinterpret_cast<const float*>(shared + i * kRingBytes)[threadIdx.x];
  static_cast<T*>(p.activations)[static_cast<int64_t>(pair) * p.intermediate + output] =
      FromFloat<T>(Silu(totals[0]) * totals[1]);
}

// One block for 16 outputs of one token; its experts are added in slot order. Their first codes are on their
// way before the activations are there: routing is older.
template <typename T, int kWarps>
__global__ void __launch_bounds__(kWarps* kWarpSize, kWarps == kAloneWarps ? 1 : kDownBlocks)
    moe_coded_down_kernel(const DownParams p) {
  const int token = blockIdx.x;
  const int row = blockIdx.y * kCodedRows;
  const int warp = threadIdx.x / kWarpSize;
  const int parts = DownParts(kWarps, p.top_k);
  const int jobs = p.top_k * parts;
  const int steps = CodedSteps(p.intermediate);
  const int64_t first_pair = static_cast<int64_t>(token) * p.top_k;
  unsigned char* shared = SharedMemory();
  unsigned char* staged = shared + kWarps * kRingBytes;
  const StagedInputs inputs(staged, p.top_k, p.intermediate);
  float* kept = reinterpret_cast<float*>(staged + StagedInputs::Bytes(p.top_k, p.intermediate));
  float* weights = kept + jobs * kCodedRows;
  const T* activations = static_cast<const T*>(p.activations) + first_pair * p.intermediate;
#pragma unroll 1
  for (int first = 0; first < jobs; first += kWarps) {
    const bool works = first + warp < jobs;
    const int job = works ? first + warp : 0;
    const int slot = job / parts;
    const int part = job % parts;
    const CodedTile tile(p.down.At<void>(LoadFresh(p.indices + first_pair + slot)), row, p.hidden,
                         p.intermediate, works ? steps * part / parts : 0,
                         works ? steps * (part + 1) / parts : 0, shared + warp * kRingBytes);
    tile.Start();
    if (first == 0) {
      WaitForPrevious();
      for (int i = threadIdx.x; i < p.top_k; i += blockDim.x) weights[i] = p.weights[first_pair + i];
      inputs.Fill(activations, p.top_k, p.top_k, p.intermediate);
      __syncthreads();
    }
    float sums[1][2];
    tile.Multiply<T, 1>(inputs, slot, activations + int64_t{1} * slot * p.intermediate, 1, sums);
    if (works) KeepSums(sums, kept + job * kCodedRows);
  }
  __syncthreads();
  const int output = row + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= kCodedRows || output >= p.hidden) return;
  float total = 0.0f;
  for (int slot = 0; slot < p.top_k; ++slot) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += kept[(slot * parts + part) * kCodedRows + threadIdx.x];
    total = fmaf(weights[slot], sum, total);
  }
  StoreSum(p, token, output, total);
}

template <typename T>
cudaError_t Launch(const GateUpParams& gate_up, const DownParams& down, int64_t tokens, cudaStream_t stream) {
  const int64_t gate_blocks = CeilDiv(gate_up.intermediate, kCodedRows);
  const int64_t down_blocks = CeilDiv(down.hidden, kCodedRows);
  if (gate_blocks > kMaxGridY || down_blocks > kMaxGridY) return cudaErrorInvalidValue;
  const dim3 gate_grid(static_cast<unsigned>(tokens * gate_up.top_k), static_cast<unsigned>(gate_blocks));
  const dim3 down_grid(static_cast<unsigned>(tokens), static_cast<unsigned>(down_blocks));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchDependentKernel(moe_coded_gate_up_kernel<T>, gate_grid,
                                                        dim3(kGateUpWarps * kWarpSize),
                                                        GateUpBytes(gate_up.hidden), stream, gate_up));
  const int warps = DownWarps(tokens);
  return LaunchDependentKernel(
      warps == kAloneWarps ? moe_coded_down_kernel<T, kAloneWarps> : moe_coded_down_kernel<T, kDownWarps>,
      down_grid, dim3(warps * kWarpSize), DownBytes(warps, down.intermediate, down.top_k), stream, down);
}

}  // namespace

cudaError_t FitsCodedTiles(const MoeExpertsArgs& args, bool* fits) {
  const ExpertTable& experts = args.experts;
  *fits = false;
  if (experts.dtype == DType::kFloat32 || experts.hidden % kCodedWidth != 0 ||
      experts.intermediate % kCodedWidth != 0 || !IsAligned16(args.x)) {
    return cudaSuccess;
  }
  const size_t gate_up = GateUpBytes(experts.hidden);
  const size_t down = DownBytes(DownWarps(args.tokens), experts.intermediate, args.top_k);
  return FitsSharedMemory(gate_up > down ? gate_up : down, fits);
}

cudaError_t LaunchCodedTiles(const GateUpParams& gate_up, const DownParams& down, DType dtype, int64_t tokens,
                             cudaStream_t stream) {
  if (dtype == DType::kFloat16) return Launch<__half>(gate_up, down, tokens, stream);
  return Launch<__nv_bfloat16>(gate_up, down, tokens, stream);
}

}  // namespace switchyard::cuda
