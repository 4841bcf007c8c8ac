// A gated delta net token by token in double precision, and random inputs for one: what the kernels of every
// device are compared with.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "../../kernels/common/key_head_values.h"

namespace switchyard::delta_net {

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

struct Parts {
  KeyHeadValues q, k, v, z, b, a;
};

constexpr float kEpsilon = 1e-6f;

// A call's inputs, and the states before it.
struct Case {
  // `normals(n)` gives n random numbers.
  template <typename Normals>
  Case(const Sizes& of, const std::vector<RowSize>& row_sizes, const Normals& normals)
      : sizes(of), rows(row_sizes) {
    for (const RowSize& row : rows) tokens += row.tokens;
    const int64_t count = static_cast<int64_t>(rows.size());
    qkvz = normals(tokens * (of.channels() + of.values()));
    ba = normals(tokens * 2 * of.value_heads());
    conv = normals(of.kernel * of.channels());
    a_log = normals(of.value_heads());
    dt_bias = normals(of.value_heads());
    norm = normals(of.value_dim);
    inputs = normals(count * (of.kernel - 1) * of.channels());
    states = normals(count * of.state());
    for (float& value : states) value *= 0.2f;
  }

  // The inputs as one tensor each for qkvz and ba where they are grouped, else qkv before z and b before a.
  Parts Find() const {
    const Sizes& s = sizes;
    const int64_t values = s.group * s.value_dim;
    const float *qkv = qkvz.data(), *z = qkv + tokens * s.channels();
    const float *b = ba.data(), *a = b + tokens * s.value_heads();
    if (s.grouped) {
      const int64_t of_head = 2 * s.key_dim + 2 * values;
      const auto part = [&](int64_t offset) {
        return KeyHeadValues{qkv + offset, s.key_heads * of_head, of_head};
      };
      const auto gate = [&](int64_t offset) {
        return KeyHeadValues{b + offset, 2 * s.value_heads(), 2 * s.group};
      };
      return {part(0), part(s.key_dim), part(2 * s.key_dim), part(2 * s.key_dim + values),
              gate(0), gate(s.group)};
    }
    return {{qkv, s.channels(), s.key_dim},
            {qkv + s.keys(), s.channels(), s.key_dim},
            {qkv + 2 * s.keys(), s.channels(), values},
            {z, s.values(), values},
            {b, s.value_heads(), s.group},
            {a, s.value_heads(), s.group}};
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

inline double Silu(double x) { return x / (1 + std::exp(-x)); }

// One token after the other, with the states where they lie.
inline Result Recur(const Case& c) {
  const Sizes& s = c.sizes;
  const Parts parts = c.Find();
  const auto channel = [&](int64_t token, int64_t i) -> double {
    const KeyHeadValues& of = i < s.keys() ? parts.q : i < 2 * s.keys() ? parts.k : parts.v;
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
                     std::log1p(std::exp(gate(parts.a, t, h) + c.dt_bias[static_cast<size_t>(h)])));
        const double beta = 1 / (1 + std::exp(-gate(parts.b, t, h)));
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
        const double scale = 1 / std::sqrt(squares / static_cast<double>(s.value_dim) + kEpsilon);
        const float* z = parts.z.data + t * parts.z.token_stride + h / s.group * parts.z.head_stride;
        for (int64_t n = 0; n < s.value_dim; ++n)
          out[n] *= scale * c.norm[static_cast<size_t>(n)] * Silu(z[h % s.group * s.value_dim + n]);
      }
    }
    first += c.rows[r].tokens;
  }
  return result;
}

}  // namespace switchyard::delta_net
