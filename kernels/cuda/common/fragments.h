// Where elements lie in the tensor-core kernel: shared-memory swizzles and the rows and columns each lane
// addresses. Plain arithmetic, shared with the tests on the host.
#pragma once
#include "../../common/moe_planner.h"

namespace switchyard::cuda {

// A block computes kMoeTileRows rows times kTileColumns weight rows, kTileK deep in each step.
constexpr int kTileColumns = 256;
constexpr int kTileK = 64;
constexpr int kChunk = 8;  // elements in 16 bytes
constexpr int kGroupRows = 16;
constexpr int kWarpRows = 2;     // warps side by side along the rows, taking groups of 16 in turn
constexpr int kWarpColumns = 4;  // warps side by side along the weight rows
constexpr int kBlockThreads = kWarpRows * kWarpColumns * 32;
constexpr int kGroups = kMoeTileRows / (kGroupRows * kWarpRows);  // groups of a warp
constexpr int kSubtiles = kTileColumns / (kWarpColumns * 8);      // 8-wide subtiles of a warp

// Element offset of chunk (row, chunk) in a tile whose rows are kTileK elements: chunks are exchanged within
// a row so that eight rows read at one chunk, or one row's eight chunks, fall into different banks.
SWITCHYARD_HOST_DEVICE constexpr int SwizzleByK(int row, int chunk) {
  return row * kTileK + ((chunk ^ (row & 7)) * kChunk);
}

// The same for a transposed weight tile: rows are kTileColumns elements, one for each k.
SWITCHYARD_HOST_DEVICE constexpr int SwizzleByColumn(int k, int chunk) {
  return k * kTileColumns + ((chunk ^ (k & 7)) * kChunk);
}

// First row of a warp's group.
SWITCHYARD_HOST_DEVICE constexpr int GroupRow(int warp_row, int group) {
  return (group * kWarpRows + warp_row) * kGroupRows;
}

// Groups with at least one of the tile's rows.
SWITCHYARD_HOST_DEVICE constexpr int ActiveGroups(int rows, int warp_row) {
  const int groups = (rows + kGroupRows - 1) / kGroupRows;
  return (groups + kWarpRows - 1 - warp_row) / kWarpRows;
}

// First weight row of a warp's 8-wide subtile. With gate and up the tile's first half is gate rows and its
// second half up rows, and a warp takes the same rows of both: subtile i of gate meets subtile i + kSubtiles
// / 2 of up in the same registers.
SWITCHYARD_HOST_DEVICE constexpr int SubtileColumn(int warp_column, int subtile, bool gate_up) {
  constexpr int kHalf = kSubtiles / 2;
  return gate_up ? (subtile / kHalf) * (kTileColumns / 2) + warp_column * (kHalf * 8) + (subtile % kHalf) * 8
                 : warp_column * (kSubtiles * 8) + subtile * 8;
}

// Which row and chunk lane `lane` addresses when a 16 x 16 operand is loaded as four 8 x 8 matrices.
struct MatrixRow {
  int row;    // of the operand
  int chunk;  // 8-wide, along the other axis
};
// Operand a: rows 0-7 and 8-15 at k 0-7, then both at k 8-15.
SWITCHYARD_HOST_DEVICE constexpr MatrixRow LaneRowOfA(int lane) {
  return {(lane / 8 % 2) * 8 + lane % 8, lane / 16};
}
// Operand b, two 8-wide subtiles: subtile 0 at k 0-7 and 8-15, then subtile 1. `row` is the weight row,
// `chunk` counts along k.
SWITCHYARD_HOST_DEVICE constexpr MatrixRow LaneRowOfB(int lane) {
  return {(lane / 16) * 8 + lane % 8, lane / 8 % 2};
}
// The same from a transposed tile: `row` is k, `chunk` counts along the weight rows.
SWITCHYARD_HOST_DEVICE constexpr MatrixRow LaneRowOfTransposedB(int lane) {
  return {(lane / 8 % 2) * 8 + lane % 8, lane / 16};
}

// Where accumulator `index` of a warpgroup product m64nN lies, for thread 0..127 of the warpgroup.
SWITCHYARD_HOST_DEVICE constexpr int WarpgroupRow(int thread, int index) {
  return thread / 32 * 16 + thread % 32 / 4 + index / 2 % 2 * 8;
}
SWITCHYARD_HOST_DEVICE constexpr int WarpgroupColumn(int thread, int index) {
  return index / 4 * 8 + thread % 4 * 2 + index % 2;
}

// First weight row of a warpgroup's block of 64; with gate and up, block 0 is gate and block 1 the same rows
// of up.
SWITCHYARD_HOST_DEVICE constexpr int WarpgroupWeightRow(int warpgroup, int block, bool gate_up) {
  return gate_up ? block * (kTileColumns / 2) + warpgroup * 64 : warpgroup * (kTileColumns / 2) + block * 64;
}

}  // namespace switchyard::cuda
