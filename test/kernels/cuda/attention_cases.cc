// Cases for the launchers of attention.
#include "cached_call.h"

namespace {

using namespace testing;

constexpr Heads kHeads[] = {{4, 4, 64}, {6, 2, 128}, {4, 2, 80}, {3, 1, 72},
                            {2, 2, 6},  {2, 1, 256}, {5, 1, 40}, {3, 1, 7}};
constexpr int kBlockSizes[] = {16, 32, 64, 256};

}  // namespace

void CachedAttentionMatchesTheReference() {
  emulator::bank_conflicts = 0;
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int most : {1, 2, 37, 70}) {
        const std::vector<Row> rows = most == 1 ? OneToken(RandomInt(1, 3), 400)
                                                : RandomRows(RandomInt(1, 4), most, most == 2 ? 400 : 60);
        CacheCase c = {dtype,
                       rows,
                       heads,
                       kBlockSizes[RandomInt(0, 3)],
                       RandomInt(0, 2) == 0 ? RandomInt(1, 100) : 0,
                       RandomInt(0, 1) == 0};
        if (RandomInt(0, 2) == 0) c.pairs = RandomInt(0, heads.head_dim / 2);
        RunCase(c);
      }
    }
  }
  // More query heads to a key head than a block holds; many rows, whose keys are not split; one position.
  RunCase({DType::kBFloat16, {{1, 299}}, {20, 1, 64}, 64, 0, true});
  RunCase({DType::kFloat16, OneToken(150, 39), {4, 4, 64}, 16, 7, false});
  RunCase({DType::kFloat32, OneToken(150, 39), {4, 4, 10}, 16, 0, true});
  RunCase({DType::kBFloat16, {{1, 0}}, {2, 1, 128}, 16, 0, true});
  RunCase({DType::kBFloat16, {{1, 8999}}, {2, 1, 128}, 64, 0, true});
  // A window far into the keys, whose first ones share a group with keys outside of it.
  RunCase({DType::kBFloat16, {{1, 700}, {1, 90}}, {8, 2, 64}, 32, 75, true});
  // One that begins so late within a group that its keys are shared out over more splits than it has keys
  // for.
  RunCase({DType::kBFloat16, {{1, 206}, {1, 1013}}, {4, 2, 64}, 64, 127, true});
  // A few tokens after many: their keys are split too. Beside them rows with one token, split in their own
  // way.
  RunCase({DType::kBFloat16, {{5, 990}}, {4, 2, 64}, 64, 0, true});
  RunCase({DType::kFloat16, {{66, 400}, {1, 433}, {1, 7}}, {2, 1, 128}, 16, 70, true});
  RunCase({DType::kFloat32, {{5, 490}, {1, 495}, {5, 490}}, {4, 2, 64}, 128, 300, true});
  RunCase({DType::kBFloat16, {{1, 600}, {30, 500}, {0, 20}, {1, 0}, {64, 64}}, {4, 2, 64}, 64, 0, true});
  // So few that heads share blocks with them: all of a key head's, some, an odd number.
  RunCase({DType::kBFloat16, {{8, 700}}, {16, 2, 128}, 64, 0, true});
  RunCase({DType::kFloat16, {{7, 300}, {9, 0}, {1, 77}}, {16, 2, 64}, 16, 90, true});
  RunCase({DType::kBFloat16, {{3, 130}, {15, 65}}, {9, 1, 80}, 32, 0, true});
  // Where a block has little shared memory.
  const int limit = std::exchange(emulator::shared_memory_limit, 99 * 1024);
  RunCase({DType::kBFloat16, {{1, 700}, {1, 90}}, {20, 1, 128}, 32, 0, true});
  RunCase({DType::kFloat16, {{2, 300}, {1, 511}, {0, 3}}, {4, 2, 128}, 64, 0, true});
  emulator::shared_memory_limit = limit;
  EXPECT(emulator::bank_conflicts == 0, "%lld matrix loads met bank conflicts",
         static_cast<long long>(emulator::bank_conflicts));
}

void RowsShareBlocks() {
  for (const DType dtype : kTypes) {
    CacheCase c = {dtype, {{1, 200}, {20, 128}, {3, 130}, {1, 128}}, {4, 2, 64}, 64, 0, true};
    c.shared_blocks = 2;
    RunCase(c);
    c.rows = {{1, 200}, {1, 128}, {1, 131}};
    RunCase(c);
  }
}

// The same call with other rows in the same memory, as a captured graph replays it, and the same bits when
// repeated.
void RowsAreReadFromTheDevice() {
  for (const DType dtype : kTypes) {
    for (const int rows : {2, 200}) {  // with and without a split
      CacheCase c = {dtype, OneToken(rows, 9), {4, 2, 32}, 64, 0, false};
      c.rows[0].past = c.rows[1].past = 699;
      CachedCall call(c);
      std::vector<std::vector<float>> outs;
      for (const int position : {5, 640, 63, 64, 5}) {
        for (int r = 0; r < 2; ++r)
          call.places().lengths.As<int32_t>()[r] = std::min(position, c.rows[r].past);
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "position %d", position);
        outs.push_back(call.Out());
      }
      EXPECT(outs.front() == outs.back(), "another result for the same position");
      EXPECT(outs[1] != outs[0] && outs[2] != outs[3], "one result for different positions");
    }
    // As many tokens and rows, shared out in another way: two of one row, none of another.
    CacheCase even = {dtype, {{1, 40}, {1, 30}, {1, 20}}, {4, 2, 64}, 16, 0, true};
    RunCase(even);
    even.rows = {{0, 40}, {2, 30}, {1, 20}};
    RunCase(even);
    even.rows = {{3, 40}, {0, 0}, {0, 20}};
    RunCase(even);
  }
}

// Rows that do not fit, rows that make no sense and blocks that do not exist.
void PlacesOutsideTheCache() {
  for (const DType dtype : kTypes) {
    for (const int count : {1, 400}) {  // with and without a split
      for (const int position : {-1, 80, 81, INT_MAX, INT_MIN}) {
        CacheCase c = {dtype, std::vector<Row>(count, {1, 0}), {2, 1, 8}, 16, 0, true};
        c.table_size = 5;
        CachedCall call(c);
        for (int r = 0; r < count; ++r) call.places().lengths.As<int32_t>()[r] = position;
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
        EXPECT(call.CacheIsUntouched(), "position %d changed the cache", position);
        const std::vector<float> out = call.Out();
        EXPECT(std::all_of(out.begin(), out.end(), [](float value) { return value == 0.0f; }), "position %d",
               position);
      }
    }
    for (const std::vector<Row>& rows : {std::vector<Row>{{1, 20}, {1, 3}}, {{40, 20}, {1, 3}, {7, 100}}}) {
      const CacheCase c = {dtype, rows, {2, 1, 64}, 16, 0, true};
      for (const int32_t block : {-1, 1 << 30, INT_MIN, INT_MAX}) {
        CachedCall call(c);
        std::fill_n(call.places().tables.As<int32_t>(), c.rows.size() * c.TableSize(), block);
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
        EXPECT(call.CacheIsUntouched(), "block %d changed the cache", block);
        const std::vector<float> out = call.Out();
        EXPECT(std::all_of(out.begin(), out.end(), [](float value) { return value == 0.0f; }), "block %d",
               block);
      }
      for (const std::vector<int32_t>& starts :
           {std::vector<int32_t>{5, 1, INT_MAX, 0}, {INT_MIN, -3, -2, -1}, {INT_MAX, INT_MAX, 0, 0}}) {
        CachedCall call(c);
        std::copy_n(starts.begin(), c.rows.size() + 1, call.places().starts.As<int32_t>());
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
      }
    }
  }
}

// As many heads as make blocks of 128 queries pay.
void AttentionInWideBlocks() {
  RunCase({DType::kBFloat16, {{129, 0}}, {128, 1, 6 * 8}, 64, 3, false});
  RunCase({DType::kFloat16, {{1, 9}, {130, 3}, {70, 0}}, {128, 4, 64}, 32, 0, true});
}

void AttentionMatchesTheReference() {
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      const int batch = RandomInt(1, 2), queries = RandomInt(1, 80), keys = RandomInt(1, 100);
      const int dim = heads.head_dim;
      const Tensor q(DType::kFloat32, int64_t{batch} * queries * heads.heads * dim, 2.0f, 4);
      const Tensor k(DType::kFloat32, int64_t{batch} * keys * heads.kv_heads * dim, 1.0f, 4);
      const Tensor v(DType::kFloat32, int64_t{batch} * keys * heads.kv_heads * dim, 1.0f, 4);
      const Guarded out(q.values.size() * 4, 8);
      AttentionArgs args = {dtype,
                            batch,
                            queries,
                            keys,
                            heads.heads,
                            heads.kv_heads,
                            dim,
                            q.memory.As<float>(),
                            k.memory.As<float>(),
                            v.memory.As<float>(),
                            0.3f,
                            out.As<float>()};
      args.workspace_bytes = AttentionWorkspaceBytes(args);
      const Guarded workspace(args.workspace_bytes, 256);
      args.workspace = workspace.data();
      EXPECT(LaunchAttention(args, nullptr) == cudaSuccess, "launch");
      std::vector<double> expected;
      for (int i = 0; i < batch * queries * heads.heads; ++i) {
        const int row = i / heads.heads / queries;
        const int kv_head = i % heads.heads / (heads.heads / heads.kv_heads);
        struct At {
          const float* first;
          int stride;
          double operator()(int j, size_t d) const {
            return first[int64_t{j} * stride + static_cast<int>(d)];
          }
        };
        const int64_t first = (int64_t{row} * keys * heads.kv_heads + kv_head) * dim;
        const int stride = heads.kv_heads * dim;
        const std::vector<double> head = Attend(
            std::vector<double>(q.values.begin() + i * dim, q.values.begin() + (i + 1) * dim), keys,
            double{0.3f}, [](int) { return true; }, At{k.values.data() + first, stride},
            At{v.values.data() + first, stride});
        expected.insert(expected.end(), head.begin(), head.end());
      }
      ExpectClose(out.data(), DType::kFloat32, expected, 3 * AttentionTolerance(dtype), "out");
    }
  }
}

void AttentionRefusesSizes() {
  CacheCase c = {DType::kBFloat16, {{3, 13}}, {2, 1, 8}, 16, 0, false};
  c.table_size = 1;
  CachedCall call(c);
  const auto refuses = [&](auto change, const char* what) {
    CachedAttentionArgs args = call.args();
    change(args);
    EXPECT(LaunchCachedAttention(args, nullptr) == cudaErrorInvalidValue, "%s", what);
  };
  EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "the block is filled to its end");
  refuses([](auto& args) { args.rows = 0; }, "tokens without rows");
  refuses([](auto& args) { args.past_lengths = nullptr; }, "rows without lengths");
  refuses([](auto& args) { args.block_size = 8; }, "blocks that are too small");
  refuses([](auto& args) { args.block_size = 48; }, "blocks of no power of two");
  refuses([](auto& args) { args.max_blocks = INT_MAX; }, "more positions than can be counted");
  refuses([](auto& args) { args.pairs = 5; }, "more rotated values than a head has");
  refuses([](auto& args) { args.head_dim = 258; }, "a head that is too large");
  refuses([](auto& args) { args.kv_heads = 3; }, "heads that cannot be shared out");
  refuses([](auto& args) { args.window = -1; }, "a negative window");
  refuses([](auto& args) { --args.workspace_bytes; }, "a workspace that is too small");
}
