// What the tensor-core kernels share: bringing a tile's operands to shared memory and writing its results.
#pragma once
#include "../moe/moe_internal.h"
#include "fragments.h"
#include "numeric.cuh"
#include "tile_codes.cuh"

namespace switchyard::cuda {

constexpr int kTileElementsA = kMoeTileRows * kTileK;
constexpr int kTileElementsB = kTileColumns * kTileK;
constexpr int kStageElements = kTileElementsA + kTileElementsB;
constexpr int kStageBytes = kStageElements * 2;
constexpr int kChunksPerRow = kTileK / kChunk;

// How a block's threads share out the copies of a tile: along k, eight threads a row; along the weight rows
// of a transposed tile, 32.
constexpr int kRowStep = kBlockThreads / kChunksPerRow;
constexpr int kRowsA = kMoeTileRows / kRowStep;
constexpr int kRowsB = kTileColumns / kRowStep;
constexpr int kChunksPerK = kTileColumns / kChunk;
constexpr int kStepK = kBlockThreads / kChunksPerK;

// How weights lie in memory: rows of k, columns of k (transposed), or codes.
enum class WeightLayout { kRows, kColumns, kCodes };

// Shared memory of a block: its stages, and the headers of two quantized matrices.
constexpr size_t TileSharedBytes(WeightLayout layout, int stages) {
  return size_t{kStageBytes} * static_cast<size_t>(stages) +
         (layout == WeightLayout::kCodes ? 2 * sizeof(CodedMatrix) : 0);
}

// What a block works on.
struct BlockTile {
  MoeTile tile;
  int column;      // first output column
  const void* b0;  // gate or down
  const void* b1;  // up
};

// Brings a tile's operands to shared memory. Every thread moves the same chunks of each step, so addresses
// only move along k.
template <typename T, bool kGateUp, WeightLayout kLayout>
class TileLoader {
 public:
  // `behind_stages`: shared memory for headers, of codes only. The whole block calls this.
  __device__ TileLoader(const GroupedMmParams& p, const BlockTile& block, T* behind_stages)
      : a_(static_cast<const T*>(p.a)),
        block_(block),
        stride_(p.b_stride),
        n_(p.n),
        k_(p.k),
        codes_(block.b0, block.b1, block.column, p.n, p.k, reinterpret_cast<CodedMatrix*>(behind_stages)) {
#pragma unroll
    for (int i = 0; i < kRowsA; ++i) {
      const int row = RowA(i);
      int64_t source = 0;
      if (row < block.tile.rows) {
        source = block.tile.begin + row;
        if (p.top_k > 0) source = p.sorted_pairs[source] / p.top_k;
      }
      a_chunk_[i] = static_cast<uint32_t>(source * (p.k / kChunk));
    }
  }

  // Begins to copy a step's rows and, but for codes, its weights.
  __device__ void Load(int k0, T* stage) const {
    LoadA(k0, stage);
    if constexpr (kLayout == WeightLayout::kColumns) {
      LoadTransposedB(k0, stage + kTileElementsA);
    } else if constexpr (kLayout == WeightLayout::kRows) {
      LoadB(k0, stage + kTileElementsA);
    }
  }

  // Codes: begins to load those of a step into registers, and writes the elements of the step loaded last.
  __device__ void LoadCodes(int k0) { codes_.Load(k0); }
  __device__ void ExpandCodes(int k0, T* stage) const { codes_.Expand(k0, stage + kTileElementsA); }

 private:
  __device__ static int RowA(int i) { return threadIdx.x / kChunksPerRow + i * kRowStep; }

  __device__ void LoadA(int k0, T* shared) const {
    const int chunk = threadIdx.x % kChunksPerRow;
    const bool inside = k0 + chunk * kChunk < k_;
    const uint32_t offset = k0 / kChunk + chunk;
#pragma unroll
    for (int i = 0; i < kRowsA; ++i) {
      const bool valid = inside && RowA(i) < block_.tile.rows;
      const T* source = a_ + (valid ? static_cast<int64_t>(a_chunk_[i] + offset) * kChunk : 0);
      CopyAsync16(shared + SwizzleByK(RowA(i), chunk), source, valid);
    }
  }

  __device__ void LoadB(int k0, T* shared) const {
    const int chunk = threadIdx.x % kChunksPerRow;
    const int k = k0 + chunk * kChunk;
#pragma unroll
    for (int i = 0; i < kRowsB; ++i) {
      const int row = threadIdx.x / kChunksPerRow + i * kRowStep;
      const bool second = kGateUp && i >= kRowsB / 2;
      const int column = block_.column + row - (second ? kTileColumns / 2 : 0);
      const bool valid = k < k_ && column < n_;
      const T* base = static_cast<const T*>(second ? block_.b1 : block_.b0);
      CopyAsync16(shared + SwizzleByK(row, chunk), base + (valid ? column * stride_ + k : 0), valid);
    }
  }

  __device__ void LoadTransposedB(int k0, T* shared) const {
    const int chunk = threadIdx.x % kChunksPerK;
    const bool second = kGateUp && chunk >= kChunksPerK / 2;
    const int column = block_.column + (second ? chunk - kChunksPerK / 2 : chunk) * kChunk;
    const T* base = static_cast<const T*>(second ? block_.b1 : block_.b0);
#pragma unroll
    for (int i = 0; i < kTileK / kStepK; ++i) {
      const int row = threadIdx.x / kChunksPerK + i * kStepK;
      const bool valid = k0 + row < k_ && column < n_;
      CopyAsync16(shared + SwizzleByColumn(row, chunk), base + (valid ? (k0 + row) * stride_ + column : 0),
                  valid);
    }
  }

  struct Nothing {
    __device__ Nothing(const void*, const void*, int, int, int, const CodedMatrix*) {}
  };
  using Codes = std::conditional_t<kLayout == WeightLayout::kCodes, TileCodes<T, kGateUp>, Nothing>;

  const T* a_;
  const BlockTile& block_;
  int64_t stride_;
  int n_, k_;
  Codes codes_;
  uint32_t a_chunk_[kRowsA];  // where the thread's rows of a start, in chunks
};

// Copies the finished tile from shared memory to its rows of the output, 16 bytes at a time.
template <typename T, bool kGateUp>
__device__ void WriteRows(const GroupedMmParams& p, const BlockTile& block, const T* shared, int pitch) {
  constexpr int kChunks = (kGateUp ? kTileColumns / 2 : kTileColumns) / kChunk;
  T* out = static_cast<T*>(p.out);
  for (int i = threadIdx.x; i < block.tile.rows * kChunks; i += kBlockThreads) {
    const int row = i / kChunks;
    const int column = block.column + i % kChunks * kChunk;
    if (column >= p.n) continue;
    const int64_t target = block.tile.begin + row;
    *reinterpret_cast<uint4*>(out + target * p.n + column) =
        *reinterpret_cast<const uint4*>(shared + row * pitch + i % kChunks * kChunk);
  }
}

}  // namespace switchyard::cuda
