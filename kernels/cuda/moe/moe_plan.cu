// Plans a grouped product on the device: a block counts, scans, writes tiles and sorts the pairs by expert,
// keeping their order. Many pairs are shared by several blocks, whose counts a launch before finds out.
#include "../common/numeric.cuh"
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

// Counters that fit the block's 48 KiB of shared memory beside the scans.
constexpr int kMaxCounters = 8192;
constexpr int kMaxWarps = 32;
constexpr int kMaxExperts = 1024;
constexpr int kLoads = 4;                // of a warp's indices, under way together
constexpr int64_t kPairsOfBlock = 2048;  // at least, where there are several

struct PlanShared {
  int32_t* counts;   // [warps, experts]: first each warp's count, then its first position within the expert
  int32_t* totals;   // [experts]
  int32_t* offsets;  // [experts]
  int32_t* tiles;    // [experts]: the first tile
};

__device__ PlanShared SplitShared(int warps, int experts) {
  auto* base = reinterpret_cast<int32_t*>(SharedMemory());
  int32_t* totals = base + warps * experts;
  return {base, totals, totals + experts, totals + 2 * experts};
}

// Every warp of every block owns one run of consecutive pairs, so that the sort keeps their order.
struct Segment {
  int64_t begin, end;
};
__device__ Segment SegmentOfWarp(int64_t pairs, int warp, int warps) {
  const int64_t all = static_cast<int64_t>(warps) * gridDim.x;
  const int64_t number = static_cast<int64_t>(warps) * blockIdx.x + warp;
  const int64_t length = CeilDiv(CeilDiv(pairs, all), kWarpSize) * kWarpSize;
  const int64_t begin = number * length < pairs ? number * length : pairs;
  return {begin, begin + length < pairs ? begin + length : pairs};
}

// Turns the warps' counts into each warp's first position within the expert, behind the pairs of blocks
// before; the sums over all blocks are the experts' totals. block_counts [blocks, experts] is null where
// there is one block.
__device__ void ScanOverWarps(const PlanShared& shared, int warps, int experts, const int32_t* block_counts) {
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int running = 0;
    int behind = 0;  // of later blocks
    if (block_counts != nullptr) {
      const int block = static_cast<int>(blockIdx.x);
#pragma unroll 4
      for (int b = 0; b < static_cast<int>(gridDim.x); ++b) {
        const int count = block_counts[b * experts + e];
        if (b < block) running += count;
        if (b > block) behind += count;
      }
    }
    for (int w = 0; w < warps; ++w) {
      const int count = shared.counts[w * experts + e];
      shared.counts[w * experts + e] = running;
      running += count;
    }
    shared.totals[e] = running + behind;
  }
}

__device__ int InclusiveScan(int value, int lane) {
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int below = __shfl_up_sync(kFullWarp, value, distance);
    if (lane >= distance) value += below;
  }
  return value;
}

// One warp: first row and first tile of every expert.
__device__ void ScanOverExperts(const PlanShared& shared, int experts, int lane, const DevicePlan& plan) {
  const bool writes = blockIdx.x == 0;
  int rows = 0;
  int tiles = 0;
  for (int base = 0; base < experts; base += kWarpSize) {
    const int e = base + lane;
    const int count = e < experts ? shared.totals[e] : 0;
    const int tile_count = MoeTileCount(count);
    const int row_end = rows + InclusiveScan(count, lane);
    const int tile_end = tiles + InclusiveScan(tile_count, lane);
    if (e < experts) {
      shared.offsets[e] = row_end - count;
      shared.tiles[e] = tile_end - tile_count;
      if (writes) plan.offsets[e] = row_end - count;
    }
    rows = __shfl_sync(kFullWarp, row_end, kWarpSize - 1);
    tiles = __shfl_sync(kFullWarp, tile_end, kWarpSize - 1);
  }
  if (writes && lane == 0) {
    plan.offsets[experts] = rows;
    *plan.num_tiles = tiles;
  }
}

__device__ void WriteTiles(const PlanShared& shared, int experts, int warp, int warps, int lane,
                           MoeTile* tiles) {
  for (int e = warp; e < experts; e += warps) {
    const int count = shared.totals[e];
    for (int i = lane; i < MoeTileCount(count); i += kWarpSize) {
      tiles[shared.tiles[e] + i] = MakeMoeTile(e, shared.offsets[e], count, i);
    }
  }
}

// Calls body(pair, expert) for 32 pairs of a warp's segment at a time, in order; past its end expert is -1.
template <typename Body>
__device__ void ForEachPair(const int32_t* indices, Segment segment, int lane, const Body& body) {
  for (int64_t base = segment.begin + lane; base - lane < segment.end; base += kLoads * kWarpSize) {
    int experts[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t pair = base + i * kWarpSize;
      experts[i] = pair < segment.end ? indices[pair] : -1;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) body(base + i * kWarpSize, experts[i]);
  }
}

// Lanes with equal experts take consecutive positions in lane order; the first of them moves the warp's
// counter on.
__device__ void SortPairs(const int32_t* indices, Segment segment, const PlanShared& shared, int32_t* counts,
                          int lane, const DevicePlan& plan) {
  ForEachPair(indices, segment, lane, [&](int64_t pair, int expert) {
    const unsigned equal = __match_any_sync(kFullWarp, expert);
    const int rank = __popc(equal & ((1u << lane) - 1));
    const int first = expert >= 0 ? counts[expert] : 0;
    __syncwarp();
    if (expert >= 0) {
      const int position = shared.offsets[expert] + first + rank;
      plan.sorted_pairs[position] = static_cast<int32_t>(pair);
      plan.positions[pair] = position;
      if (rank == 0) counts[expert] = first + __popc(equal);
    }
    __syncwarp();
  });
}

// What each block of the plan will find in its pairs: block_counts [blocks, experts].
__global__ void __launch_bounds__(kMaxWarps* kWarpSize)
    moe_count_kernel(const int32_t* indices, int64_t pairs, int experts, int32_t* block_counts) {
  const int warps = blockDim.x / kWarpSize;
  auto* counts = reinterpret_cast<int32_t*>(SharedMemory());
  for (int e = threadIdx.x; e < experts; e += blockDim.x) counts[e] = 0;
  __syncthreads();
  ForEachPair(indices, SegmentOfWarp(pairs, threadIdx.x / kWarpSize, warps), threadIdx.x % kWarpSize,
              [&](int64_t, int expert) {
                if (expert >= 0) atomicAdd(&counts[expert], 1);
              });
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += blockDim.x)
    block_counts[static_cast<int64_t>(blockIdx.x) * experts + e] = counts[e];
}

__global__ void __launch_bounds__(kMaxWarps* kWarpSize, 1)
    moe_plan_kernel(const int32_t* indices, int64_t pairs, int experts, DevicePlan plan) {
  const int warps = blockDim.x / kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int lane = threadIdx.x % kWarpSize;
  const PlanShared shared = SplitShared(warps, experts);
  int32_t* counts = shared.counts + warp * experts;
  const Segment segment = SegmentOfWarp(pairs, warp, warps);

  for (int e = lane; e < experts; e += kWarpSize) counts[e] = 0;
  __syncwarp();
  ForEachPair(indices, segment, lane, [&](int64_t, int expert) {
    if (expert >= 0) atomicAdd(&counts[expert], 1);
  });
  __syncthreads();
  ScanOverWarps(shared, warps, experts, gridDim.x > 1 ? plan.block_counts : nullptr);
  __syncthreads();
  if (warp == 0) ScanOverExperts(shared, experts, lane, plan);
  __syncthreads();
  if (blockIdx.x == 0) WriteTiles(shared, experts, warp, warps, lane, plan.tiles);
  SortPairs(indices, segment, shared, counts, lane, plan);
}

}  // namespace

cudaError_t LaunchMoePlan(const int32_t* indices, int64_t pairs, int num_experts, const DevicePlan& plan,
                          cudaStream_t stream) {
  if (num_experts > kMaxExperts) return cudaErrorInvalidValue;
  const int64_t useful = CeilDiv(pairs, kWarpSize);
  int warps = kMaxCounters / num_experts < kMaxWarps ? kMaxCounters / num_experts : kMaxWarps;
  if (useful < warps) warps = useful < 1 ? 1 : static_cast<int>(useful);
  // Few pairs are sorted before a second launch would have begun.
  int64_t blocks = pairs / kPairsOfBlock;
  blocks = blocks < 1 ? 1 : blocks < kMostPlanBlocks ? blocks : kMostPlanBlocks;
  const dim3 grid(static_cast<unsigned>(blocks));
  const size_t shared_bytes = static_cast<size_t>(warps + 3) * num_experts * sizeof(int32_t);
  if (blocks > 1) {
    SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchKernel(moe_count_kernel, grid, dim3(warps * kWarpSize),
                                                 num_experts * sizeof(int32_t), stream, indices, pairs,
                                                 num_experts, plan.block_counts));
  }
  return LaunchKernel(moe_plan_kernel, grid, dim3(warps * kWarpSize), shared_bytes, stream, indices, pairs,
                      num_experts, plan);
}

}  // namespace switchyard::cuda
