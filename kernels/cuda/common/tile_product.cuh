// The products of one tile on tensor cores (sm_80), for the kernels that load it with TileLoader: 128 rows
// times 256 weight rows by eight warps of 64 x 64 results each. Rows a tile does not have are skipped in
// groups of 16.
#pragma once
#include "tile_io.cuh"

namespace switchyard::cuda {

// Stages of the copy pipeline: three where a block's shared memory allows (sm_80, sm_90), else two.
constexpr int kMostStages = 3;
// A warp's results and the products that build them.
template <typename T, bool kGateUp, WeightLayout kLayout>
class WarpTile {
 public:
  __device__ explicit WarpTile(int rows)
      : lane_(threadIdx.x % kWarpSize),
        warp_row_(threadIdx.x / kWarpSize % kWarpRows),
        warp_column_(threadIdx.x / kWarpSize / kWarpRows),
        groups_(ActiveGroups(rows, warp_row_)) {}

  // Adds the products of one stage. The next fragments are loaded while the present ones are multiplied.
  __device__ void Multiply(const T* stage) {
    constexpr int kSteps = kTileK / 16;
    const T* a = stage;
    const T* b = stage + kTileElementsA;
    uint32_t b_fragments[2][kSubtiles / 2][4];
    LoadB(b, 0, b_fragments[0]);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step + 1 < kSteps) LoadB(b, step + 1, b_fragments[(step + 1) % 2]);
      uint32_t a_fragments[2][4];
      LoadA(a, 0, step, a_fragments[0]);
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        if (group < groups_) {
          if (group + 1 < kGroups) LoadA(a, group + 1, step, a_fragments[(group + 1) % 2]);
          MultiplyGroup(a_fragments[group % 2], b_fragments[step % 2], results_[group]);
        }
      }
    }
  }

  // Calls body(row, column, first, second) for this lane's results, two neighbours in a row of the tile at a
  // time.
  template <typename Body>
  __device__ void ForEachPair(const Body& body) const {
    constexpr int kOutputs = kGateUp ? kSubtiles / 2 : kSubtiles;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int subtile = 0; subtile < kOutputs; ++subtile) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = GroupRow(warp_row_, group) + lane_ / 4 + half * 8;
          const int column = SubtileColumn(warp_column_, subtile, kGateUp) + lane_ % 4 * 2;
          body(row, column, Result(group, subtile, half * 2), Result(group, subtile, half * 2 + 1));
        }
      }
    }
  }

  // Writes the results, rounded to T, to shared memory: [kMoeTileRows][pitch].
  __device__ void Store(T* shared, int pitch) const {
    ForEachPair([&](int row, int column, float first, float second) {
      Pack<T, 2> pair;
      pair.values[0] = FromFloat<T>(first);
      pair.values[1] = FromFloat<T>(second);
      *reinterpret_cast<Pack<T, 2>*>(shared + row * pitch + column) = pair;
    });
  }

 private:
  __device__ void LoadA(const T* a, int group, int step, uint32_t (&out)[4]) const {
    const MatrixRow at = LaneRowOfA(lane_);
    LoadMatrices<false>(out, a + SwizzleByK(GroupRow(warp_row_, group) + at.row, step * 2 + at.chunk));
  }

  __device__ void LoadB(const T* b, int step, uint32_t (&out)[kSubtiles / 2][4]) const {
#pragma unroll
    for (int pair = 0; pair < kSubtiles / 2; ++pair) {
      const int column = SubtileColumn(warp_column_, pair * 2, kGateUp);
      if constexpr (kLayout == WeightLayout::kColumns) {
        const MatrixRow at = LaneRowOfTransposedB(lane_);
        LoadMatrices<true>(out[pair], b + SwizzleByColumn(step * 16 + at.row, column / kChunk + at.chunk));
      } else {
        const MatrixRow at = LaneRowOfB(lane_);
        LoadMatrices<false>(out[pair], b + SwizzleByK(column + at.row, step * 2 + at.chunk));
      }
    }
  }

  __device__ static void MultiplyGroup(const uint32_t (&a)[4], const uint32_t (&b)[kSubtiles / 2][4],
                                       float (&results)[kSubtiles][4]) {
#pragma unroll
    for (int pair = 0; pair < kSubtiles / 2; ++pair) {
      MultiplyAccumulate<T>(results[pair * 2], a, b[pair][0], b[pair][1]);
      MultiplyAccumulate<T>(results[pair * 2 + 1], a, b[pair][2], b[pair][3]);
    }
  }

  __device__ float Result(int group, int subtile, int index) const {
    if constexpr (kGateUp) {
      return Silu(results_[group][subtile][index]) * results_[group][subtile + kSubtiles / 2][index];
    } else {
      return results_[group][subtile][index];
    }
  }

  int lane_, warp_row_, warp_column_, groups_;
  float results_[kGroups][kSubtiles][4] = {};
};

// From loads to results, `stages` deep; codes are loaded two steps ahead and expanded one. Afterwards the
// block's shared memory is free.
template <typename T, bool kGateUp, WeightLayout kLayout>
__device__ void MultiplyTile(int k, int stages, T* shared, TileLoader<T, kGateUp, kLayout>& loader,
                             WarpTile<T, kGateUp, kLayout>& warp) {
  constexpr bool kCodes = kLayout == WeightLayout::kCodes;
  const int steps = static_cast<int>(CeilDiv(k, kTileK));
  if constexpr (kCodes) loader.LoadCodes(0);
  for (int s = 0; s < stages - 1; ++s) {
    if (s < steps) loader.Load(s * kTileK, shared + s * kStageElements);
    CopyAsyncCommit();
  }
  if constexpr (kCodes) {
    loader.ExpandCodes(0, shared);
    if (steps > 1) loader.LoadCodes(kTileK);
  }
  int reading = 0;
  int writing = stages - 1;
  for (int step = 0; step < steps; ++step) {
    if (stages == kMostStages) {
      CopyAsyncWait<kMostStages - 2>();
    } else {
      CopyAsyncWait<0>();
    }
    __syncthreads();  // this step's stage has arrived, and everyone is done with the one before, which is
                      // written next
    const int ahead = step + stages - 1;
    if (ahead < steps) loader.Load(ahead * kTileK, shared + writing * kStageElements);
    CopyAsyncCommit();
    const int next = reading + 1 == stages ? 0 : reading + 1;
    if constexpr (kCodes) {
      if (step + 1 < steps) loader.ExpandCodes((step + 1) * kTileK, shared + next * kStageElements);
      if (step + 2 < steps) loader.LoadCodes((step + 2) * kTileK);
    }
    warp.Multiply(shared + reading * kStageElements);
    reading = next;
    writing = writing + 1 == stages ? 0 : writing + 1;
  }
  CopyAsyncWait<0>();
  __syncthreads();
}

// The stages a block of the present device has shared memory for.
inline cudaError_t ChooseStages(int* stages) {
  bool fits = false;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      FitsSharedMemory(TileSharedBytes(WeightLayout::kCodes, kMostStages), &fits));
  *stages = fits ? kMostStages : kMostStages - 1;
  return cudaSuccess;
}

}  // namespace switchyard::cuda
