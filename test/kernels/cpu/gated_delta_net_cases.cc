// The mixer of linear attention layers against its recurrence, token by token in double precision.
#include <cmath>
#include <cstring>
#include <vector>

#include "../../../kernels/cpu/delta_rule.h"
#include "../../../kernels/cpu/workspace.h"
#include "../delta_net_reference.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

using delta_net::Case;
using delta_net::Parts;
using delta_net::Recur;
using delta_net::Result;
using delta_net::RowSize;
using delta_net::Sizes;

Case RandomCase(const Sizes& sizes, const std::vector<RowSize>& rows, Random& random) {
  return Case(sizes, rows, [&](int64_t count) { return random.Normals(count); });
}

struct Outcome {
  Output out;
  std::vector<float> inputs, states;
};

Outcome Run(const Case& c, int threads, Workspace& workspace) {
  const Sizes& s = c.sizes;
  Outcome outcome = {Output(c.tokens * s.values()), c.inputs, c.states};
  std::vector<RecurrentRow> rows;
  int64_t first = 0;
  for (size_t r = 0; r < c.rows.size(); ++r) {
    const int64_t index = static_cast<int64_t>(r);
    rows.push_back({first, c.rows[r].tokens, c.rows[r].fresh,
                    outcome.inputs.data() + index * (s.kernel - 1) * s.channels(),
                    outcome.states.data() + index * s.state()});
    first += c.rows[r].tokens;
  }
  const Parts parts = c.Find();
  TestPool pool(threads);
  GatedDeltaNet({.q = parts.q,
                 .k = parts.k,
                 .v = parts.v,
                 .z = parts.z,
                 .b = parts.b,
                 .a = parts.a,
                 .rows = rows.data(),
                 .row_count = static_cast<int64_t>(rows.size()),
                 .tokens = c.tokens,
                 .key_heads = s.key_heads,
                 .value_heads = s.value_heads(),
                 .key_dim = s.key_dim,
                 .value_dim = s.value_dim,
                 .kernel = s.kernel,
                 .conv = c.conv.data(),
                 .a_log = c.a_log.data(),
                 .dt_bias = c.dt_bias.data(),
                 .norm = c.norm.data(),
                 .epsilon = delta_net::kEpsilon,
                 .out = outcome.out.data()},
                workspace, pool);
  workspace.Reset();
  return outcome;
}

double At(const Output& values, size_t i) { return values[static_cast<int64_t>(i)]; }
double At(const std::vector<float>& values, size_t i) { return values[i]; }

template <typename Found>
void Compare(const char* what, const Case& c, const std::vector<double>& expected, const Found& found,
             double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = At(found, i);
    if (std::abs(value - expected[i]) <= tolerance * (1 + std::abs(expected[i]))) continue;
    const Sizes& s = c.sizes;
    Fail(
        "[%s] %s of %lld x %lld heads, %lld -> %lld, kernel %lld, grouped %d, %lld tokens: [%zu] is %g, "
        "expected %g",
        IsaName(), what, static_cast<long long>(s.key_heads), static_cast<long long>(s.group),
        static_cast<long long>(s.key_dim), static_cast<long long>(s.value_dim),
        static_cast<long long>(s.kernel), s.grouped, static_cast<long long>(c.tokens), i, value, expected[i]);
    return;
  }
}

void Check(const Case& c, int threads, Workspace& workspace) {
  const Result expected = Recur(c);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    const Outcome found = Run(c, threads, workspace);
    // The norm divides by the root mean square of results that may be small.
    Compare("result", c, expected.out, found.out, 2e-4);
    Compare("last inputs", c, expected.inputs, found.inputs, 0);
    Compare("state", c, expected.states, found.states, 1e-5);
    found.out.CheckGuards("GatedDeltaNet");
  }
}

void DeltaNetShapes() {
  Random random(40);
  Workspace workspace;
  for (const int64_t key_dim : {1, 2, 7, 16, 33, 64}) {
    for (const int64_t value_dim : {1, 5, 16, 24, 67, 128}) {
      const Sizes sizes = {random.Int(1, 3), random.Int(1, 3), key_dim,
                           value_dim,        random.Int(1, 5), random.Int(0, 1) == 1};
      std::vector<RowSize> rows;
      for (int64_t r = random.Int(1, 4); r > 0; --r)
        rows.push_back({random.Int(0, 12), random.Int(0, 1) == 1});
      rows.push_back({random.Int(9, 70), random.Int(0, 1) == 1});
      Check(RandomCase(sizes, rows, random), static_cast<int>(random.Int(1, 4)), workspace);
    }
  }
}

// Rows that end before, at and behind the ends of chunks, beside rows of a single token.
void DeltaNetChunks() {
  Random random(41);
  Workspace workspace;
  for (const bool grouped : {false, true}) {
    for (const int64_t tokens : {8, 9, 63, 64, 65, 70, 128, 129, 200})
      Check(RandomCase({1, 2, 32, 32, 4, grouped},
                       {{1, false}, {tokens, true}, {1, true}, {tokens + 3, false}}, random),
            3, workspace);
  }
  Check(RandomCase({2, 1, 128, 128, 4, false}, {{130, false}}, random), 2, workspace);
}

// Decays from none at all to everything within a token.
void DeltaNetDecays() {
  Random random(42);
  Workspace workspace;
  for (const float a_log : {-12.0f, -3.0f, 1.5f, 5.0f}) {
    Case c = RandomCase({2, 2, 24, 20, 3, false}, {{150, false}, {3, false}}, random);
    for (float& value : c.a_log) value += a_log;
    Check(c, 2, workspace);
  }
}

// The same bits with other rows and threads beside.
void DeltaNetRowsAlone() {
  Random random(43);
  Workspace workspace;
  const Sizes sizes = {2, 2, 20, 36, 4, false};
  const Case all = RandomCase(sizes, {{5, false}, {90, true}, {1, false}}, random);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    const Outcome together = Run(all, 4, workspace);
    int64_t first = 0;
    for (size_t r = 0; r < all.rows.size(); ++r) {
      const int64_t tokens = all.rows[r].tokens, index = static_cast<int64_t>(r);
      Case alone = all;
      alone.rows = {all.rows[r]};
      alone.tokens = tokens;
      const auto slice = [&](const std::vector<float>& from, int64_t at, int64_t count) {
        return std::vector<float>(from.begin() + at, from.begin() + at + count);
      };
      const int64_t qkv = sizes.channels(), z = sizes.values(), heads = sizes.value_heads();
      alone.qkvz = slice(all.qkvz, first * qkv, tokens * qkv);
      const std::vector<float> gates = slice(all.qkvz, all.tokens * qkv + first * z, tokens * z);
      alone.qkvz.insert(alone.qkvz.end(), gates.begin(), gates.end());
      alone.ba = slice(all.ba, first * heads, tokens * heads);
      const std::vector<float> a = slice(all.ba, (all.tokens + first) * heads, tokens * heads);
      alone.ba.insert(alone.ba.end(), a.begin(), a.end());
      alone.inputs = slice(all.inputs, index * 3 * qkv, 3 * qkv);
      alone.states = slice(all.states, index * sizes.state(), sizes.state());
      const Outcome single = Run(alone, 1, workspace);
      for (int64_t i = 0; i < tokens * z; ++i) {
        if (single.out[i] == together.out[first * z + i]) continue;
        Fail("[%s] row %zu: [%lld] is %g alone and %g beside others", isa, r, static_cast<long long>(i),
             static_cast<double>(single.out[i]), static_cast<double>(together.out[first * z + i]));
        break;
      }
      if (single.states != slice(together.states, index * sizes.state(), sizes.state()))
        Fail("[%s] row %zu: another state alone than beside others", isa, r);
      first += tokens;
    }
  }
}

}  // namespace

std::vector<Group> GatedDeltaNetGroups() {
  return {
      {"gated delta nets of all shapes", DeltaNetShapes},
      {"gated delta nets around the ends of chunks", DeltaNetChunks},
      {"gated delta nets of slow and fast decay", DeltaNetDecays},
      {"a row of a gated delta net alone and beside others", DeltaNetRowsAlone},
  };
}

}  // namespace switchyard::cpu
