// The grouped product on Hopper's warpgroup instructions (sm_90a), for weights [rows, k]. The weights take
// the place of the left operand and the tokens that of the right one, whose width comes in steps of 32: a
// tile computes little more than its rows.
#include "../common/ptx_sm90.cuh"
#include "../common/tile_io.cuh"

namespace switchyard::cuda {
namespace {

// Four stages, two of them being filled: a stage is written again only after the products that read it are
// known to be done.
constexpr int kStages = 4;
[[maybe_unused]] constexpr int kAhead = 2;
constexpr int kAtom = 1024;  // bytes after which the swizzle repeats: where stages must begin
constexpr size_t kSharedBytes = size_t{kStages} * kStageElements * 2 + kAtom;
[[maybe_unused]] constexpr int kWarpgroup = 128;
constexpr int kBlocks = 2;  // of 64 weight rows, a warpgroup

// The results of one warpgroup: two blocks of 64 weight rows times kRows tokens.
template <typename T, bool kGateUp, int kRows>
class WarpgroupTile {
 public:
  // Starts the products of one stage. Between Begin and Finish nothing else may touch the accumulators.
  __device__ void Multiply(const T* stage) {
    const int warpgroup = threadIdx.x / kWarpgroup;
    WarpgroupFence();
#pragma unroll
    for (int step = 0; step < kTileK / 16; ++step) {
      const uint64_t tokens = MatrixDescriptor(stage + step * 16);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int row = WarpgroupWeightRow(warpgroup, block, kGateUp);
        const uint64_t weights = MatrixDescriptor(stage + kTileElementsA + row * kTileK + step * 16);
        WarpgroupMultiply<T, kRows>(results_[block], weights, tokens);
      }
    }
    WarpgroupCommit();
  }

  // Sets the accumulators before the first products.
  __device__ void Begin() {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) PinAccumulators(results_[block]);
  }

  // Waits for all products.
  __device__ void Finish() {
    WarpgroupWait<0>();
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) PinAccumulators(results_[block]);
  }

  // Writes the results, rounded to T, to shared memory: [kRows][pitch].
  __device__ void Store(T* shared, int pitch) const {
    const int warpgroup = threadIdx.x / kWarpgroup;
    const int thread = threadIdx.x % kWarpgroup;
#pragma unroll
    for (int block = 0; block < (kGateUp ? 1 : kBlocks); ++block) {
#pragma unroll
      for (int i = 0; i < kRows / 2; ++i) {
        const int column = WarpgroupWeightRow(warpgroup, block, kGateUp) + WarpgroupRow(thread, i);
        const float value = kGateUp ? Silu(results_[0][i]) * results_[1][i] : results_[block][i];
        shared[WarpgroupColumn(thread, i) * pitch + column] = FromFloat<T>(value);
      }
    }
  }

 private:
  float results_[kBlocks][kRows / 2] = {};
};

// A tile of at most kRows rows, from loads to stores.
template <typename T, bool kGateUp, int kRows>
__device__ void ComputeTile(const GroupedMmParams& p, const BlockTile& block, T* shared) {
  constexpr int kWidth = kGateUp ? kTileColumns / 2 : kTileColumns;
  TileLoader<T, kGateUp, WeightLayout::kRows> loader(p, block, nullptr);
  WarpgroupTile<T, kGateUp, kRows> results;
  const int steps = static_cast<int>(CeilDiv(p.k, kTileK));
  for (int s = 0; s < kAhead; ++s) {
    if (s < steps) loader.Load(s * kTileK, shared + s * kStageElements);
    CopyAsyncCommit();
  }
  // Waits until a step's operands have arrived and starts the copies of a later one.
  const auto fetch = [&](int step) {
    CopyAsyncWait<kAhead - 1>();
    FenceAsyncProxy();
    __syncthreads();
    const int ahead = step + kAhead;
    if (ahead < steps) loader.Load(ahead * kTileK, shared + ahead % kStages * kStageElements);
    CopyAsyncCommit();
  };
  results.Begin();
  int step = 0;
  do {  // k is never 0; a loop that might not run would make the compiler wait for every product
    fetch(step);
    results.Multiply(shared + step % kStages * kStageElements);
    WarpgroupWait<1>();
  } while (++step < steps);
  results.Finish();
  CopyAsyncWait<0>();
  __syncthreads();
  constexpr int kPitch = kWidth + kChunk;
  results.Store(shared, kPitch);
  __syncthreads();
  WriteRows<T, kGateUp>(p, block, shared, kPitch);
}

// Code for other targets than sm_90a is a kernel without a body for blocks of one warp, which tells the
// launcher that there is none.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kMostThreads = kWarpSize;
#else
constexpr int kMostThreads = kBlockThreads;
#endif

template <typename T, bool kGateUp>
__global__ void __launch_bounds__(kMostThreads, 1) moe_grouped_mm_sm90_kernel(const GroupedMmParams p) {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kWidth = kGateUp ? kTileColumns / 2 : kTileColumns;
  if (static_cast<int>(blockIdx.y) >= *p.num_tiles) return;
  const MoeTile tile = p.tiles[blockIdx.y];
  const BlockTile block = {tile, static_cast<int>(blockIdx.x) * kWidth, p.b0.At<void>(tile.expert),
                           kGateUp ? p.b1.At<void>(tile.expert) : nullptr};
  unsigned char* base = SharedMemory();
  T* shared = reinterpret_cast<T*>(base + (kAtom - SharedAddress(base) % kAtom) % kAtom);
  switch ((tile.rows + 31) / 32) {
    case 1:
      return ComputeTile<T, kGateUp, 32>(p, block, shared);
    case 2:
      return ComputeTile<T, kGateUp, 64>(p, block, shared);
    case 3:
      return ComputeTile<T, kGateUp, 96>(p, block, shared);
    default:
      return ComputeTile<T, kGateUp, 128>(p, block, shared);
  }
#endif
}

template <typename T>
cudaError_t Launch(const GroupedMmParams& params, bool gate_up, int max_tiles, cudaStream_t stream) {
  const int width = gate_up ? kTileColumns / 2 : kTileColumns;
  const dim3 grid(static_cast<unsigned>(CeilDiv(params.n, width)), static_cast<unsigned>(max_tiles));
  const auto kernel = gate_up ? moe_grouped_mm_sm90_kernel<T, true> : moe_grouped_mm_sm90_kernel<T, false>;
  cudaFuncAttributes attributes = {};
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
  if (attributes.maxThreadsPerBlock < kBlockThreads) return cudaErrorNotSupported;
  return LaunchKernel(kernel, grid, dim3(kBlockThreads), kSharedBytes, stream, params);
}

}  // namespace

cudaError_t LaunchGroupedMmSm90(const GroupedMmParams& params, DType dtype, bool gate_up, bool transposed,
                                int max_tiles, cudaStream_t stream) {
  int device = 0;
  int major = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (major != 9 || transposed) return cudaErrorNotSupported;
  if (max_tiles > kMaxGridY || dtype == DType::kFloat32) return cudaErrorInvalidValue;
  return dtype == DType::kBFloat16 ? Launch<__nv_bfloat16>(params, gate_up, max_tiles, stream)
                                   : Launch<__half>(params, gate_up, max_tiles, stream);
}

}  // namespace switchyard::cuda
