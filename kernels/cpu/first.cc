// Plain loops over every kernel.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/float_types.h"
#include "kernels.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {
float Element(const WeightMatrix& m, int64_t n, int64_t k) {
  const int64_t i = m.transposed ? k * m.stride + n : n * m.stride + k;
  return LoadElement(static_cast<const char*>(m.data) + i * DTypeSize(m.dtype), m.dtype);
}
float Dot(const WeightMatrix& m, int64_t n, const float* x) {
  float s = 0;
  for (int64_t k = 0; k < m.cols; ++k) s += Element(m, n, k) * x[k];
  return s;
}
void Mlp(const WeightMatrix& g, const WeightMatrix& u, const WeightMatrix& d, const float* x, float scale, float* y) {
  std::vector<float> h(static_cast<size_t>(g.rows));
  for (int64_t i = 0; i < g.rows; ++i) {
    const float a = Dot(g, i, x);
    h[static_cast<size_t>(i)] = a / (1 + std::exp(-a)) * Dot(u, i, x);
  }
  for (int64_t i = 0; i < d.rows; ++i) y[i] += scale * Dot(d, i, h.data());
}
}  // namespace

void Linear(const LinearArgs& a, Workspace&, ThreadPool&) {
  for (int i = 0; i < a.count; ++i)
    for (int64_t t = 0; t < a.tokens; ++t)
      for (int64_t n = 0; n < a.weights[i].rows; ++n) {
        const WeightMatrix* b = a.biases != nullptr && a.biases[i].data != nullptr ? &a.biases[i] : nullptr;
        a.outputs[i][t * a.weights[i].rows + n] =
            Dot(a.weights[i], n, a.x + t * a.weights[i].cols) + (b != nullptr ? Element(*b, 0, n) : 0.0f);
      }
}

void GatedMlp(const GatedMlpArgs& a, Workspace&, ThreadPool&) {
  const int64_t h = a.gate.cols;
  for (int64_t t = 0; t < a.tokens; ++t) {
    float scale = 1;
    if (a.output_gate.data != nullptr) scale = 1 / (1 + std::exp(-Dot(a.output_gate, 0, a.x + t * h)));
    std::fill_n(a.y + t * h, h, 0.0f);
    Mlp(a.gate, a.up, a.down, a.x + t * h, scale, a.y + t * h);
  }
}

void Router(const RouterArgs& a, Workspace&, ThreadPool&) {
  const int64_t e = a.weight.rows;
  std::vector<float> p(static_cast<size_t>(e));
  for (int64_t t = 0; t < a.tokens; ++t) {
    float* l = a.logits + t * e;
    for (int64_t n = 0; n < e; ++n) l[n] = Dot(a.weight, n, a.x + t * a.weight.cols);
    const float top = *std::max_element(l, l + e);
    float sum = 0;
    for (int64_t n = 0; n < e; ++n) sum += p[static_cast<size_t>(n)] = std::exp(l[n] - top);
    for (auto& v : p) v /= sum;
    float chosen = 0;
    for (int j = 0; j < a.top_k; ++j) {
      const auto best = std::max_element(p.begin(), p.end());
      a.indices[t * a.top_k + j] = static_cast<int32_t>(best - p.begin());
      chosen += a.weights[t * a.top_k + j] = *best;
      *best = -1;
    }
    if (a.normalize)
      for (int j = 0; j < a.top_k; ++j) a.weights[t * a.top_k + j] /= chosen;
  }
}

void MoeExperts(const MoeExpertsArgs& a, Workspace&, ThreadPool&) {
  for (int64_t t = 0; t < a.tokens; ++t) {
    std::fill_n(a.y + t * a.hidden, a.hidden, 0.0f);
    for (int j = 0; j < a.top_k; ++j) {
      const ExpertWeights& w = a.experts[a.indices[t * a.top_k + j]];
      Mlp(w.gate, w.up, w.down, a.x + t * a.hidden, a.weights[t * a.top_k + j], a.y + t * a.hidden);
    }
  }
}

void EmbeddingRows(const WeightMatrix& table, const int64_t* ids, int64_t count, float* out, ThreadPool&) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < table.cols; ++k) out[i * table.cols + k] = Element(table, ids[i], k);
}
}  // namespace switchyard::cpu
