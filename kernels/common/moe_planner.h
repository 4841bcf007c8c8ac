// The schedule of a grouped matrix product: counts per expert -> offsets -> tiles of rows. The device's
// planning kernel and the host's reference plan are built from the same functions.
#pragma once
#include <cstdint>
#include <vector>

#include "host_device.h"

namespace switchyard {

// Rows of the largest tile, and the granule tile sizes are rounded to: what two warps take together in the
// tensor-core kernel.
constexpr int kMoeTileRows = 128;
constexpr int kMoeTileGranule = 32;

// One tile: `rows` consecutive rows, starting at `begin`, of the token-expert pairs sorted by expert.
struct alignas(16) MoeTile {
  int32_t expert;
  int32_t begin;
  int32_t rows;
  int32_t unused;
};

SWITCHYARD_HOST_DEVICE constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles an expert with `count` rows needs.
SWITCHYARD_HOST_DEVICE constexpr int MoeTileCount(int count) {
  return static_cast<int>(CeilDiv(count, kMoeTileRows));
}

// Tile `index` of an expert whose `count` rows start at `offset`. Rows are spread evenly, so that an expert
// with one row more than a tile holds gets two tiles of half the size instead of a full one and a nearly
// empty one.
SWITCHYARD_HOST_DEVICE constexpr MoeTile MakeMoeTile(int expert, int offset, int count, int index) {
  const int even = static_cast<int>(CeilDiv(count, MoeTileCount(count)));
  const int rows = static_cast<int>(CeilDiv(even, kMoeTileGranule)) * kMoeTileGranule;
  const int begin = index * rows;
  const int left = count - begin;
  return {expert, offset + begin, left < rows ? left : rows, 0};
}

// The most tiles any routing of `pairs` pairs over `num_experts` experts can need: the fixed grid of a
// launch.
SWITCHYARD_HOST_DEVICE constexpr int MoeMaxTiles(int64_t pairs, int num_experts) {
  const int64_t active = pairs < num_experts ? pairs : num_experts;
  return static_cast<int>((pairs + active * (kMoeTileRows - 1)) / kMoeTileRows);
}

// A plan on the host. offsets [num_experts + 1]; sorted_pairs [pairs]: the pair (token * top_k + slot) at
// each sorted position, ascending within an expert.
struct MoeHostPlan {
  std::vector<int32_t> offsets;
  std::vector<int32_t> sorted_pairs;
  std::vector<MoeTile> tiles;
};

// Plans `pairs` routed pairs; indices [pairs], each in [0, num_experts).
inline MoeHostPlan PlanMoe(const int32_t* indices, int64_t pairs, int num_experts) {
  MoeHostPlan plan;
  plan.offsets.assign(num_experts + 1, 0);
  for (int64_t p = 0; p < pairs; ++p) ++plan.offsets[indices[p] + 1];
  for (int e = 0; e < num_experts; ++e) {
    const int count = plan.offsets[e + 1];
    plan.offsets[e + 1] += plan.offsets[e];
    for (int i = 0; i < MoeTileCount(count); ++i) {
      plan.tiles.push_back(MakeMoeTile(e, plan.offsets[e], count, i));
    }
  }
  std::vector<int32_t> next(plan.offsets.begin(), plan.offsets.end() - 1);
  plan.sorted_pairs.resize(pairs);
  for (int64_t p = 0; p < pairs; ++p) plan.sorted_pairs[next[indices[p]]++] = static_cast<int32_t>(p);
  return plan;
}

}  // namespace switchyard
