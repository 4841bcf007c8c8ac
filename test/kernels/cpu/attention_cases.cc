// Attention over keys in blocks against loops in double precision.
#include <cmath>
#include <cstring>
#include <vector>

#include "attention_testing.h"

namespace switchyard::cpu {
namespace {

// Every head size, group and type, over caches and without one.
void AttentionShapes() {
  Random random(20);
  Workspace workspace;
  for (const int64_t head_dim : {1, 2, 7, 8, 10, 12, 15, 16, 17, 31, 32, 33, 64, 72, 80, 128, 129, 256}) {
    for (int round = 0; round < 6; ++round) {
      const Precision precision = kAllPrecisions[round % 2];
      const DType dtype = kAllDTypes[round % 3];
      const int64_t kv_heads = random.Int(1, 3);
      const int64_t heads = kv_heads * random.Int(1, 3);
      const int threads = static_cast<int>(random.Int(1, 4));
      CheckAttention({MixedRows(random.Int(1, 4), random.Int(1, 90), 50, random),
                      {heads, kv_heads, head_dim, kBlockSizes[random.Int(0, 3)]},
                      dtype,
                      true,
                      0,
                      precision,
                      threads},
                     random, workspace);
    }
    const int64_t tokens = random.Int(1, 40);
    CheckAttention({{{tokens, 60, 0}, {tokens, 60, 0}},
                    {4, 2, head_dim, 0},
                    DType::kFloat32,
                    false,
                    0,
                    kAllPrecisions[tokens % 2],
                    2},
                   random, workspace);
  }
  for (int64_t tokens = 1; tokens <= 60; tokens += tokens < 13 ? 1 : 4) {
    CheckAttention(
        {{Causal(tokens, 0)}, {2, 1, 20, 16}, kAllDTypes[tokens % 3], true, 0, kAllPrecisions[tokens % 2], 2},
        random, workspace);
  }
}

// More keys than are prepared at a time, more queries than a block of them, and rows of different lengths.
void AttentionLong() {
  Random random(21);
  Workspace workspace;
  for (const Precision precision : kAllPrecisions) {
    for (const DType dtype : kAllDTypes) {
      CheckAttention(
          {{Causal(101, 929), Causal(1, 800), Causal(60, 0)}, {2, 1, 24, 64}, dtype, true, 0, precision, 3},
          random, workspace);
      CheckAttention({{Causal(97, 1003), Causal(90, 500)}, {2, 2, 16, 16}, dtype, true, 0, precision, 3},
                     random, workspace);
      CheckAttention({{Causal(600, 0)}, {1, 1, 8, 256}, dtype, true, 0, precision, 2}, random, workspace);
    }
    CheckAttention({{{101, 1030, 0}}, {2, 1, 24, 0}, DType::kFloat32, false, 0, precision, 3}, random,
                   workspace);
  }
}

void AttentionWindows() {
  Random random(22);
  Workspace workspace;
  for (const int64_t window : {1, 3, 64, 511, 512, 700}) {
    for (const Precision precision : kAllPrecisions) {
      const DType dtype = kAllDTypes[window % 3];
      CheckAttention({MixedRows(4, 1100, 55, random), {2, 1, 12, 32}, dtype, true, window, precision, 3},
                     random, workspace);
      CheckAttention({{Causal(55, 1045), Causal(1, 1099), Causal(50, 3)},
                      {4, 2, 12, 16},
                      dtype,
                      true,
                      window,
                      precision,
                      3},
                     random, workspace);
    }
  }
}

// Few queries, read in place: chunks of keys, masks and windows that cut them.
void AttentionFewTokens() {
  Random random(28);
  Workspace workspace;
  for (const int64_t tokens : {2, 5, 16}) {
    for (const int64_t window : {0, 2, 520}) {
      CheckAttention({{Causal(tokens, 1100 - tokens), Causal(tokens, 300)},
                      {4, 2, 20, 64},
                      kAllDTypes[tokens % 3],
                      true,
                      window,
                      Precision::kBFloat16,
                      3},
                     random, workspace);
    }
    CheckAttention({{{tokens, 530, 0}, {tokens, 530, 0}},
                    {2, 2, 20, 0},
                    DType::kFloat32,
                    false,
                    0,
                    Precision::kFloat32,
                    2},
                   random, workspace);
  }
}

// One token a row: chunks of keys, many heads of one kv head, rows of different lengths.
void AttentionOneToken() {
  Random random(23);
  Workspace workspace;
  for (const int64_t keys : {1, 2, 17, 511, 512, 513, 1700}) {
    for (const int64_t group : {1, 2, 5, 8, 13}) {
      CheckAttention({{Causal(1, keys - 1), Causal(1, random.Int(0, keys)), Causal(1, random.Int(0, keys))},
                      {2 * group, 2, group == 8 ? 128 : 10, kBlockSizes[keys % 4]},
                      kAllDTypes[(keys + group) % 3],
                      true,
                      0,
                      kAllPrecisions[keys % 2],
                      3},
                     random, workspace);
    }
  }
}

// Rows that begin with the same blocks.
void AttentionSharedPrefix() {
  Random random(29);
  Workspace workspace;
  for (const DType dtype : kAllDTypes) {
    AttentionCase c = {{Causal(1, 160), Causal(40, 128), Causal(3, 140), Causal(200, 128)},
                       {4, 1, 32, 64},
                       dtype,
                       true,
                       0,
                       Precision::kFloat32,
                       3};
    c.shared_blocks = 2;
    CheckAttention(c, random, workspace);
    c.window = 100;
    CheckAttention(c, random, workspace);
  }
}

// Queries that see nothing get zeros; past positions beyond the keys see all of them.
void AttentionEdges() {
  Random random(24);
  Workspace workspace;
  for (const int64_t tokens : {1, 7, 40}) {
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t block : {0, 16}) {
        const Shape shape = {2, 1, 9, block};
        const DType dtype = block == 0 ? DType::kFloat32 : kAllDTypes[tokens % 3];
        CheckAttention({{{tokens, 0, 0}, {tokens, 5, 0}, {0, 5, 0}, {tokens, 5, 9}, {tokens, 0, 3}},
                        shape,
                        dtype,
                        true,
                        0,
                        precision,
                        2},
                       random, workspace);
        CheckAttention({{{tokens, 5, 9}, {tokens, 5, 3}}, shape, dtype, true, 4, precision, 2}, random,
                       workspace);
        CheckAttention({{{tokens, 0, 0}, {tokens, 3, 0}}, shape, dtype, false, 0, precision, 2}, random,
                       workspace);
        CheckAttention({{{tokens, 0, 0}}, shape, dtype, false, 0, precision, 2}, random, workspace);
      }
    }
  }
  TestPool pool(2);
  Output out(1);
  const AttentionCase none = {{}, {1, 1, 8, 16}, DType::kFloat32, true, 0, Precision::kFloat32, 2};
  Attention(ToArgs(none, Pool(random, none), {}, nullptr, out.data()), workspace, pool);
  if (!std::isnan(out[0])) Fail("Attention wrote an output although there were no rows");
}

// Little room for prepared keys: in parts, with the sums of all queries kept in between.
void AttentionParts() {
  Random random(25);
  Workspace workspace;
  for (const Precision precision : kAllPrecisions) {
    for (const int64_t blocks : {0, 1, 2, 3}) {
      const int64_t bytes = blocks * 2 * 512 * 16 * 4 * 2;
      const DType dtype = kAllDTypes[blocks % 3];
      CheckAttention(
          {{Causal(60, 1640), Causal(60, 900)}, {4, 2, 16, 64}, dtype, true, 0, precision, 3, bytes}, random,
          workspace);
      CheckAttention({{Causal(50, 1150)}, {2, 2, 16, 32}, dtype, true, 900, precision, 3, bytes}, random,
                     workspace);
    }
  }
  CheckAttention({{{2300, 2300, 0}}, {1, 1, 4, 256}, DType::kFloat32, true, 30, Precision::kFloat32, 2, 0},
                 random, workspace);
}

std::vector<float> Attend(const AttentionCase& c, const Pool& pool, const std::vector<AttentionRow>& rows,
                          const std::vector<float>& q, Workspace& workspace) {
  std::vector<float> out(q.size(), std::nanf(""));
  TestPool threads(c.threads);
  Attention(ToArgs(c, pool, rows, q.data(), out.data()), workspace, threads);
  return out;
}

bool SameBits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

// The same bits whatever the number of threads, the other rows and the room for prepared keys.
void AttentionBits() {
  Random random(26);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t window : {0, 77}) {
        AttentionCase c = {{Causal(100, 1400), Causal(1, 1299), Causal(9, 500), Causal(130, 0), Causal(1, 0)},
                           {4, 2, 40, 64},
                           kAllDTypes[random.Int(0, 2)],
                           true,
                           window,
                           precision,
                           1};
        const std::vector<float> q = random.Normals(c.Tokens() * 4 * 40);
        const Pool pool(random, c);
        const std::vector<AttentionRow> rows = ToRows(c.rows);
        const std::vector<float> first = Attend(c, pool, rows, q, workspace);
        for (const int threads : {2, 3, 7, 16, 64}) {
          c.threads = threads;
          c.prepared_bytes = threads << 17;
          const std::vector<float> again = Attend(c, pool, rows, q, workspace);
          if (!SameBits(first.data(), again.data(), static_cast<int64_t>(q.size()))) {
            Fail("%s: other bits on %d threads than on one", Describe(c, 0).c_str(), threads);
          }
        }
        for (size_t r = 0; r < rows.size(); ++r) {
          std::vector<AttentionRow> alone = rows;
          for (size_t other = 0; other < rows.size(); ++other) alone[other].tokens *= other == r ? 1 : 0;
          const std::vector<float> out = Attend(c, pool, alone, q, workspace);
          const int64_t at = rows[r].first * 4 * 40;
          if (!SameBits(first.data() + at, out.data() + at, rows[r].tokens * 4 * 40)) {
            Fail("%s: other bits than beside other rows", Describe(c, r).c_str());
          }
        }
      }
    }
  }
}

void AttentionScratch() {
  SelectIsa(Isas()[0]);
  const int64_t tokens = kStreamedQueries + 1;
  for (const int64_t kv_heads : {1, 4}) {
    Workspace workspace;
    TestPool pool(2);
    const int64_t keys = 80000 / kv_heads;
    Random random(27);
    const std::vector<float> q = random.Normals(tokens * kv_heads * 128);
    const std::vector<float> kv(static_cast<size_t>(keys * kv_heads * 128), 0.25f);
    const AttentionRow row = {0, tokens, keys - tokens, keys};
    Output out(static_cast<int64_t>(q.size()));
    Attention({q.data(),
               kv.data(),
               kv.data(),
               DType::kFloat32,
               {keys, keys * kv_heads * 128, 128, kv_heads * 128, nullptr, 0},
               out.data(),
               &row,
               1,
               kv_heads,
               kv_heads,
               128,
               true,
               0,
               0.1f,
               Precision::kFloat32},
              workspace, pool);
    if (workspace.capacity() > (32u << 20))
      Fail("attention's scratch grew to %zu bytes", workspace.capacity());
    for (int64_t i = 0; i < out.size(); ++i) {
      if (!(std::fabs(out[i] - 0.25f) <= 1e-5f)) {
        Fail("a mean of equal values over %lld keys is %g", static_cast<long long>(keys),
             static_cast<double>(out[i]));
        break;
      }
    }
  }
}

}  // namespace

std::vector<Group> AttentionGroups() {
  return {
      {"attention: head sizes, groups, types and blocks", AttentionShapes},
      {"attention: more keys and queries than a block", AttentionLong},
      {"attention: sliding windows", AttentionWindows},
      {"attention: one token a row", AttentionOneToken},
      {"attention: few tokens", AttentionFewTokens},
      {"attention: rows that share blocks", AttentionSharedPrefix},
      {"attention: queries without keys, no rows", AttentionEdges},
      {"attention: keys prepared in parts", AttentionParts},
      {"attention: same bits on 1 to 64 threads, alone and beside others", AttentionBits},
      {"attention: long inputs need bounded scratch", AttentionScratch},
  };
}

}  // namespace switchyard::cpu
