// Plans a grouped product on the device: one block counts, scans, writes tiles and sorts the pairs by expert,
// keeping their order.
#include "../common/numeric.cuh"
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

// Counters that fit the block's 48 KiB of shared memory beside the scans.
constexpr int kMaxCounters = 8192;
constexpr int kMaxWarps = 32;
constexpr int kMaxExperts = 1024;
constexpr int kLoads = 4;  // of a warp's indices, under way together

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

// Every warp owns one run of consecutive pairs, so that the sort keeps their order.
struct Segment {
  int64_t begin, end;
};
__device__ Segment SegmentOfWarp(int64_t pairs, int warp, int warps) {
  const int64_t length = CeilDiv(CeilDiv(pairs, warps), kWarpSize) * kWarpSize;
  const int64_t begin = warp * length < pairs ? warp * length : pairs;
  return {begin, begin + length < pairs ? begin + length : pairs};
}

// Turns the warps' counts into each warp's first position within the expert; the sums are the experts'
// totals.
__device__ void ScanOverWarps(const PlanShared& shared, int warps, int experts) {
  for (int e = threadIdx.x; e < experts; e += blockDim.x) {
    int running = 0;
    for (int w = 0; w < warps; ++w) {
      const int count = shared.counts[w * experts + e];
      shared.counts[w * experts + e] = running;
      running += count;
    }
    shared.totals[e] = running;
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
      plan.offsets[e] = row_end - count;
    }
    rows = __shfl_sync(kFullWarp, row_end, kWarpSize - 1);
    tiles = __shfl_sync(kFullWarp, tile_end, kWarpSize - 1);
  }
  if (lane == 0) {
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
                          int lane, int32_t* sorted_pairs) {
  ForEachPair(indices, segment, lane, [&](int64_t pair, int expert) {
    const unsigned equal = __match_any_sync(kFullWarp, expert);
    const int rank = __popc(equal & ((1u << lane) - 1));
    const int first = expert >= 0 ? counts[expert] : 0;
    __syncwarp();
    if (expert >= 0) {
      sorted_pairs[shared.offsets[expert] + first + rank] = static_cast<int32_t>(pair);
      if (rank == 0) counts[expert] = first + __popc(equal);
    }
    __syncwarp();
  });
}

__global__ void __launch_bounds__(kMaxWarps* kWarpSize)
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
  ScanOverWarps(shared, warps, experts);
  __syncthreads();
  if (warp == 0) ScanOverExperts(shared, experts, lane, plan);
  __syncthreads();
  WriteTiles(shared, experts, warp, warps, lane, plan.tiles);
  SortPairs(indices, segment, shared, counts, lane, plan.sorted_pairs);
}

}  // namespace

cudaError_t LaunchMoePlan(const int32_t* indices, int64_t pairs, int num_experts, const DevicePlan& plan,
                          cudaStream_t stream) {
  if (num_experts > kMaxExperts) return cudaErrorInvalidValue;
  const int64_t useful = CeilDiv(pairs, kWarpSize);
  int warps = kMaxCounters / num_experts < kMaxWarps ? kMaxCounters / num_experts : kMaxWarps;
  if (useful < warps) warps = useful < 1 ? 1 : static_cast<int>(useful);
  const size_t shared_bytes = static_cast<size_t>(warps + 3) * num_experts * sizeof(int32_t);
  return LaunchKernel(moe_plan_kernel, dim3(1), dim3(warps * kWarpSize), shared_bytes, stream, indices, pairs,
                      num_experts, plan);
}

}  // namespace switchyard::cuda
