// The mixer of linear attention layers against its recurrence, token by token in double precision.
#include <cmath>
#include <cstring>
#include <vector>

#include "../../../kernels/cpu/delta_rule.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

struct Sizes {
  int64_t key_heads, group, key_dim, value_dim, kernel;
  // As `in_proj_qkvz` and `in_proj_ba` have them, by key head; otherwise part by part.
  bool grouped;

  int64_t value_heads() const { return key_heads * group; }
  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads() * value_dim; }
  int64_t channels() const { return 2 * keys() + values(); }
  int64_t state() const { return value_heads() * key_dim * value_dim; }
};

struct RowSize {
  int64_t tokens;
  bool fresh;
};

// A call's inputs, and the states before it.
struct Case {
  Case(const Sizes& of, const std::vector<RowSize>& row_sizes, Random& random) : sizes(of), rows(row_sizes) {
    for (const RowSize& row : rows) tokens += row.tokens;
    const int64_t count = static_cast<int64_t>(rows.size());
    qkvz = random.Normals(tokens * (of.channels() + of.values()));
    ba = random.Normals(tokens * 2 * of.value_heads());
    conv = random.Normals(of.kernel * of.channels());
    a_log = random.Normals(of.value_heads());
    dt_bias = random.Normals(of.value_heads());
    norm = random.Normals(of.value_dim);
    inputs = random.Normals(count * (of.kernel - 1) * of.channels());
    states = random.Normals(count * of.state());
    for (float& value : states) value *= 0.2f;
  }

  // The inputs as one tensor each for qkvz and ba where they are grouped, else qkv before z and b before a.
  GatedDeltaNetArgs Args() const {
    const Sizes& s = sizes;
    const int64_t values = s.group * s.value_dim;
    const float *qkv = qkvz.data(), *z = qkv + tokens * s.channels();
    const float *b = ba.data(), *a = b + tokens * s.value_heads();
    GatedDeltaNetArgs args = {};
    if (s.grouped) {
      const int64_t of_head = 2 * s.key_dim + 2 * values;
      const auto part = [&](const float* from) {
        return KeyHeadValues{from, s.key_heads * of_head, of_head};
      };
      const auto gate = [&](const float* from) {
        return KeyHeadValues{from, 2 * s.value_heads(), 2 * s.group};
      };
      args.q = part(qkv), args.k = part(qkv + s.key_dim), args.v = part(qkv + 2 * s.key_dim);
      args.z = part(qkv + 2 * s.key_dim + values);
      args.b = gate(b), args.a = gate(b + s.group);
    } else {
      args.q = {qkv, s.channels(), s.key_dim};
      args.k = {qkv + s.keys(), s.channels(), s.key_dim};
      args.v = {qkv + 2 * s.keys(), s.channels(), values};
      args.z = {z, s.values(), values};
      args.b = {b, s.value_heads(), s.group};
      args.a = {a, s.value_heads(), s.group};
    }
    args.tokens = tokens;
    args.key_heads = s.key_heads, args.value_heads = s.value_heads();
    args.key_dim = s.key_dim, args.value_dim = s.value_dim, args.kernel = s.kernel;
    args.conv = conv.data(), args.a_log = a_log.data(), args.dt_bias = dt_bias.data(),
    args.norm = norm.data();
    args.epsilon = 1e-6f;
    return args;
  }

  Sizes sizes;
  std::vector<RowSize> rows;
  int64_t tokens = 0;
  std::vector<float> qkvz, ba, conv, a_log, dt_bias, norm;
  std::vector<float> inputs,
      states;  // of each row: [kernel - 1, channels], [value_heads, key_dim, value_dim]
};

struct Result {
  std::vector<double> out, inputs, states;
};

double Silu(double x) { return x / (1 + std::exp(-x)); }

// One token after the other, with the states where they lie.
Result Recur(const Case& c) {
  const Sizes& s = c.sizes;
  const GatedDeltaNetArgs args = c.Args();
  const auto channel = [&](int64_t token, int64_t i) -> double {
    const KeyHeadValues& of = i < s.keys() ? args.q : i < 2 * s.keys() ? args.k : args.v;
    const int64_t width = i < 2 * s.keys() ? s.key_dim : s.group * s.value_dim;
    const int64_t at = i < s.keys() ? i : i < 2 * s.keys() ? i - s.keys() : i - 2 * s.keys();
    return of.data[token * of.token_stride + at / width * of.head_stride + at % width];
  };
  const auto gate = [&](const KeyHeadValues& of, int64_t token, int64_t h) -> double {
    return of.data[token * of.token_stride + h / s.group * of.head_stride + h % s.group];
  };
  Result result = {std::vector<double>(static_cast<size_t>(c.tokens * s.values())),
                   {c.inputs.begin(), c.inputs.end()},
                   {c.states.begin(), c.states.end()}};
  int64_t first = 0;
  for (size_t r = 0; r < c.rows.size(); ++r) {
    if (c.rows[r].tokens == 0) continue;
    double* inputs = result.inputs.data() + static_cast<int64_t>(r) * (s.kernel - 1) * s.channels();
    double* states = result.states.data() + static_cast<int64_t>(r) * s.state();
    if (c.rows[r].fresh) {
      std::fill_n(inputs, (s.kernel - 1) * s.channels(), 0.0);
      std::fill_n(states, s.state(), 0.0);
    }
    std::vector<double> mixed(static_cast<size_t>(s.channels()));
    for (int64_t t = first; t < first + c.rows[r].tokens; ++t) {
      for (int64_t i = 0; i < s.channels(); ++i) {
        double sum = channel(t, i) * c.conv[static_cast<size_t>((s.kernel - 1) * s.channels() + i)];
        for (int64_t tap = 0; tap + 1 < s.kernel; ++tap)
          sum += inputs[tap * s.channels() + i] * c.conv[static_cast<size_t>(tap * s.channels() + i)];
        mixed[static_cast<size_t>(i)] = Silu(sum);
        for (int64_t tap = 0; tap + 2 < s.kernel; ++tap)
          inputs[tap * s.channels() + i] = inputs[(tap + 1) * s.channels() + i];
        if (s.kernel > 1) inputs[(s.kernel - 2) * s.channels() + i] = channel(t, i);
      }
      for (int64_t h = 0; h < s.value_heads(); ++h) {
        double* state = states + h * s.key_dim * s.value_dim;
        const double* q = mixed.data() + h / s.group * s.key_dim;
        const double* k = q + s.keys();
        const double* v = mixed.data() + 2 * s.keys() + h * s.value_dim;
        double q_length = 1e-6, k_length = 1e-6;
        for (int64_t i = 0; i < s.key_dim; ++i) q_length += q[i] * q[i], k_length += k[i] * k[i];
        q_length = std::sqrt(q_length * static_cast<double>(s.key_dim)), k_length = std::sqrt(k_length);
        const double decay =
            std::exp(-std::exp(double{c.a_log[static_cast<size_t>(h)]}) *
                     std::log1p(std::exp(gate(args.a, t, h) + c.dt_bias[static_cast<size_t>(h)])));
        const double beta = 1 / (1 + std::exp(-gate(args.b, t, h)));
        double* out = result.out.data() + t * s.values() + h * s.value_dim;
        double squares = 0;
        for (int64_t n = 0; n < s.value_dim; ++n) {
          double known = 0;
          for (int64_t i = 0; i < s.key_dim; ++i)
            known += decay * state[i * s.value_dim + n] * k[i] / k_length;
          out[n] = 0;
          for (int64_t i = 0; i < s.key_dim; ++i) {
            double& value = state[i * s.value_dim + n];
            value = decay * value + k[i] / k_length * beta * (v[n] - known);
            out[n] += value * q[i] / q_length;
          }
          squares += out[n] * out[n];
        }
        const double scale = 1 / std::sqrt(squares / static_cast<double>(s.value_dim) + args.epsilon);
        const float* z = args.z.data + t * args.z.token_stride + h / s.group * args.z.head_stride;
        for (int64_t n = 0; n < s.value_dim; ++n)
          out[n] *= scale * c.norm[static_cast<size_t>(n)] * Silu(z[h % s.group * s.value_dim + n]);
      }
    }
    first += c.rows[r].tokens;
  }
  return result;
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
  GatedDeltaNetArgs args = c.Args();
  args.rows = rows.data(), args.row_count = static_cast<int64_t>(rows.size());
  args.out = outcome.out.data();
  TestPool pool(threads);
  GatedDeltaNet(args, workspace, pool);
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
      Check(Case(sizes, rows, random), static_cast<int>(random.Int(1, 4)), workspace);
    }
  }
}

// Rows that end before, at and behind the ends of chunks, beside rows of a single token.
void DeltaNetChunks() {
  Random random(41);
  Workspace workspace;
  for (const bool grouped : {false, true}) {
    for (const int64_t tokens : {8, 9, 63, 64, 65, 70, 128, 129, 200})
      Check(Case({1, 2, 32, 32, 4, grouped}, {{1, false}, {tokens, true}, {1, true}, {tokens + 3, false}},
                 random),
            3, workspace);
  }
  Check(Case({2, 1, 128, 128, 4, false}, {{130, false}}, random), 2, workspace);
}

// Decays from none at all to everything within a token.
void DeltaNetDecays() {
  Random random(42);
  Workspace workspace;
  for (const float a_log : {-12.0f, -3.0f, 1.5f, 5.0f}) {
    Case c({2, 2, 24, 20, 3, false}, {{150, false}, {3, false}}, random);
    for (float& value : c.a_log) value += a_log;
    Check(c, 2, workspace);
  }
}

// The same bits with other rows and threads beside.
void DeltaNetRowsAlone() {
  Random random(43);
  Workspace workspace;
  const Sizes sizes = {2, 2, 20, 36, 4, false};
  const Case all(sizes, {{5, false}, {90, true}, {1, false}}, random);
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
