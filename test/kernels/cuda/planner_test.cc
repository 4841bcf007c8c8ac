// Properties of the planner's arithmetic and of the tensor-core kernel's index functions, without any GPU
// code.
#include <algorithm>
#include <array>
#include <set>

#include "../../../kernels/common/moe_planner.h"
#include "../../../kernels/cuda/common/fragments.h"
#include "testing.h"

namespace {

using switchyard::MoeTile;
using testing::Routing;

// Every pair lies in exactly one tile, which names its expert; tiles fit their limits and the fixed grid.
void CheckPlan(const std::vector<int>& indices, int experts) {
  const int pairs = static_cast<int>(indices.size());
  const switchyard::MoeHostPlan plan = switchyard::PlanMoe(indices.data(), pairs, experts);
  EXPECT(plan.offsets.front() == 0 && plan.offsets.back() == pairs, "%d pairs", pairs);
  EXPECT(static_cast<int>(plan.tiles.size()) <= switchyard::MoeMaxTiles(pairs, experts), "%zu tiles",
         plan.tiles.size());
  std::vector<int> seen(pairs, 0);
  for (const MoeTile& tile : plan.tiles) {
    EXPECT(tile.rows > 0 && tile.rows <= switchyard::kMoeTileRows, "%d rows", tile.rows);
    for (int i = 0; i < tile.rows; ++i) {
      const int pair = plan.sorted_pairs.at(tile.begin + i);
      EXPECT(indices.at(pair) == tile.expert, "pair %d in a tile of expert %d", pair, tile.expert);
      ++seen.at(pair);
    }
  }
  EXPECT(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }), "%d pairs, %d experts", pairs,
         experts);
}

void EveryPairInOneTile(Routing routing) {
  for (int round = 0; round < 60; ++round) {
    const int experts = testing::RandomInt(1, 130);
    const int top_k = testing::RandomInt(1, std::min(8, experts));
    CheckPlan(testing::Route(routing, testing::RandomInt(1, 700), top_k, experts), experts);
  }
}

void RandomRouting() { EveryPairInOneTile(Routing::kRandom); }
void SkewedRouting() { EveryPairInOneTile(Routing::kSkewed); }
void OneSetOfExperts() { EveryPairInOneTile(Routing::kSameForAll); }
void FewActiveExperts() { EveryPairInOneTile(Routing::kFewOfMany); }
void NoTokens() { CheckPlan({}, 60); }

void OneExpert() {
  for (int pairs = 1; pairs < 700; ++pairs) CheckPlan(std::vector<int>(pairs, 0), 1);
}

void EveryExpertOnce() {
  std::vector<int> indices(128);
  for (int e = 0; e < 128; ++e) indices[e] = 127 - e;
  CheckPlan(indices, 128);
}

// Two tiles of an expert differ by less than a granule times the number of tiles; none is nearly empty beside
// full ones.
void TilesAreEven() {
  for (int count = 1; count < 3000; ++count) {
    const int tiles = switchyard::MoeTileCount(count);
    const MoeTile first = switchyard::MakeMoeTile(0, 0, count, 0);
    const MoeTile last = switchyard::MakeMoeTile(0, 0, count, tiles - 1);
    EXPECT(last.rows > 0, "%d rows", count);
    EXPECT(first.rows - last.rows < switchyard::kMoeTileGranule * tiles, "%d rows: %d and %d", count,
           first.rows, last.rows);
  }
}

// The worst routing for a grid of fixed size: every expert but one holds a single row more than fills its
// tiles.
void MaxTilesIsReached() {
  const int experts = 5;
  std::vector<int> indices;
  for (int e = 0; e < experts; ++e) indices.insert(indices.end(), switchyard::kMoeTileRows + 1, e);
  const int pairs = static_cast<int>(indices.size());
  const switchyard::MoeHostPlan plan = switchyard::PlanMoe(indices.data(), pairs, experts);
  EXPECT(static_cast<int>(plan.tiles.size()) == switchyard::MoeMaxTiles(pairs, experts), "%zu tiles",
         plan.tiles.size());
}

using namespace switchyard::cuda;

// A swizzled tile is a permutation of its chunks, and eight rows at one chunk meet all 32 banks.
template <typename Offset>
void CheckSwizzle(int rows, int chunks, Offset offset) {
  std::set<int> seen;
  for (int row = 0; row < rows; ++row) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      EXPECT(offset(row, chunk) % kChunk == 0, "row %d chunk %d", row, chunk);
      seen.insert(offset(row, chunk));
    }
  }
  EXPECT(static_cast<int>(seen.size()) == rows * chunks, "%zu places", seen.size());
  EXPECT(*seen.rbegin() == (rows * chunks - 1) * kChunk, "last place %d", *seen.rbegin());
  for (int row = 0; row < rows; row += 8) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      unsigned banks = 0;
      for (int i = 0; i < 8; ++i) banks |= 1u << (offset(row + i, chunk) / kChunk % 8);
      EXPECT(banks == 0xff, "rows from %d, chunk %d", row, chunk);
    }
  }
}

void Swizzles() {
  CheckSwizzle(kTileColumns, kTileK / kChunk, SwizzleByK);
  CheckSwizzle(kTileK, kTileColumns / kChunk, SwizzleByColumn);
}

// The warps' groups and subtiles cover a tile once, and the active groups are those that begin below its last
// row.
void WarpsCoverTheTile() {
  for (const bool gate_up : {false, true}) {
    std::set<int> columns;
    for (int w = 0; w < kWarpColumns; ++w) {
      for (int i = 0; i < kSubtiles; ++i) {
        columns.insert(SubtileColumn(w, i, gate_up));
        const int other = SubtileColumn(w, i % (kSubtiles / 2) + kSubtiles / 2, gate_up);
        const int partner = SubtileColumn(w, i % (kSubtiles / 2), gate_up) + kTileColumns / 2;
        EXPECT(!gate_up || other == partner, "warp %d subtile %d", w, i);
      }
      for (int i = 0; i < kSubtiles; i += 2) {
        EXPECT(SubtileColumn(w, i + 1, gate_up) == SubtileColumn(w, i, gate_up) + 8, "warp %d subtile %d", w,
               i);
      }
    }
    EXPECT(columns.size() == kTileColumns / 8 && *columns.rbegin() == kTileColumns - 8, "%zu",
           columns.size());
  }
  for (int rows = 1; rows <= switchyard::kMoeTileRows; ++rows) {
    std::set<int> groups;
    for (int w = 0; w < kWarpRows; ++w) {
      for (int g = 0; g < ActiveGroups(rows, w); ++g) groups.insert(GroupRow(w, g));
    }
    EXPECT(static_cast<int>(groups.size()) == (rows + kGroupRows - 1) / kGroupRows, "%d rows", rows);
    EXPECT(*groups.rbegin() < rows && *groups.begin() == 0, "%d rows", rows);
  }
}

// The four matrices of a fragment load cover a 16 x 16 operand in the order the product's registers want.
void FragmentLoadsFollowTheRegisters() {
  for (int lane = 0; lane < 32; ++lane) {
    const int matrix = lane / 8;
    const int row = lane % 8;
    EXPECT(LaneRowOfA(lane).row == row + 8 * (matrix % 2) && LaneRowOfA(lane).chunk == matrix / 2, "lane %d",
           lane);
    EXPECT(LaneRowOfB(lane).row == row + 8 * (matrix / 2) && LaneRowOfB(lane).chunk == matrix % 2, "lane %d",
           lane);
    EXPECT(LaneRowOfTransposedB(lane).row == row + 8 * (matrix % 2), "lane %d", lane);
    EXPECT(LaneRowOfTransposedB(lane).chunk == matrix / 2, "lane %d", lane);
  }
}

// The warpgroups' blocks of 64 cover the weight rows once, and a warpgroup's accumulators their 64 x 128
// results once.
void WarpgroupsCoverTheTile() {
  for (const bool gate_up : {false, true}) {
    std::set<int> rows;
    for (int i = 0; i < 4; ++i) rows.insert(WarpgroupWeightRow(i / 2, i % 2, gate_up));
    EXPECT((rows == std::set<int>{0, 64, 128, 192}), "%zu blocks", rows.size());
  }
  EXPECT(WarpgroupWeightRow(1, 1, true) == WarpgroupWeightRow(1, 0, true) + kTileColumns / 2,
         "gate meets up");
  std::set<std::pair<int, int>> places;
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < 64; ++i) places.insert({WarpgroupRow(thread, i), WarpgroupColumn(thread, i)});
  }
  EXPECT(places.size() == 64 * 128, "%zu places", places.size());
  EXPECT((*places.rbegin() == std::pair<int, int>{63, 127}), "last row %d", places.rbegin()->first);
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"random routing", RandomRouting},
                        {"skewed routing", SkewedRouting},
                        {"all tokens on the same experts", OneSetOfExperts},
                        {"few of many experts active", FewActiveExperts},
                        {"no tokens", NoTokens},
                        {"one expert", OneExpert},
                        {"every expert once", EveryExpertOnce},
                        {"tiles of an expert are even", TilesAreEven},
                        {"the fixed grid is as small as it can be", MaxTilesIsReached},
                        {"swizzles are free of bank conflicts", Swizzles},
                        {"warps cover the tile once", WarpsCoverTheTile},
                        {"fragment loads follow the registers", FragmentLoadsFollowTheRegisters},
                        {"warpgroups cover the tile once", WarpgroupsCoverTheTile}});
}
