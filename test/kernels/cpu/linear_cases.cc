// Linear against dot products in double precision.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../../../kernels/cpu/arch/isa.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing_weights.h"

namespace switchyard::cpu {
namespace {

struct LinearCase {
  int64_t tokens, cols;
  std::vector<int64_t> rows;
  DType dtype;
  bool transposed;
  Precision precision;
  bool bias;
  int shift;
  int threads;
};

void CheckLinearValues(const LinearCase& c, const std::vector<Weights>& weights,
                       const std::vector<Weights>& biases, const std::vector<float>& x,
                       const std::vector<Output>& outputs) {
  for (size_t i = 0; i < c.rows.size(); ++i) {
    const std::string what = Describe("Linear", weights[i].matrix(), c.tokens, c.precision, c.threads);
    outputs[i].CheckGuards(what);
    for (int64_t t = 0; t < c.tokens; ++t) {
      const std::vector<double> row = Doubles(x.data() + t * c.cols, c.cols);
      for (int64_t n = 0; n < c.rows[i]; ++n) {
        double magnitude = 0.0;
        double expected = weights[i].Dot(n, row.data(), c.precision, &magnitude);
        if (c.bias) expected += biases[i].At(0, n);
        const double error = std::fabs(outputs[i][t * c.rows[i] + n] - expected);
        if (!(error <= 1e-6 * (magnitude + std::fabs(expected)) + 1e-7)) {
          Fail("%s: output %zu (%lld, %lld) is %g, expected %g", what.c_str(), i, static_cast<long long>(t),
               static_cast<long long>(n), static_cast<double>(outputs[i][t * c.rows[i] + n]), expected);
        }
      }
    }
  }
}

void CheckLinear(const LinearCase& c, Random& random, Workspace& workspace) {
  const std::vector<float> x = random.Normals(c.tokens * c.cols);
  std::vector<Weights> weights, biases;
  for (const int64_t rows : c.rows) {
    weights.emplace_back(random, rows, c.cols, c.dtype, c.transposed, 0.1f, c.shift, random.Int(0, 3));
    biases.emplace_back(random, 1, rows, c.dtype, false, 1.0f, c.shift);
  }
  TestPool pool(c.threads);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    std::vector<WeightMatrix> matrices, bias_matrices;
    std::vector<Output> outputs;
    for (size_t i = 0; i < c.rows.size(); ++i) {
      matrices.push_back(weights[i].matrix());
      bias_matrices.push_back(c.bias ? biases[i].matrix() : WeightMatrix{});
      outputs.emplace_back(c.tokens * c.rows[i]);
    }
    std::vector<float*> pointers;
    for (Output& output : outputs) pointers.push_back(output.data());
    Linear({x.data(), c.tokens, matrices.data(), bias_matrices.data(), pointers.data(),
            static_cast<int>(c.rows.size()), c.precision},
           workspace, pool);
    CheckLinearValues(c, weights, biases, x, outputs);
  }
}

// Every dtype, layout and precision at one shape.
void CheckLinearShape(int64_t tokens, int64_t cols, const std::vector<int64_t>& rows, Random& random,
                      Workspace& workspace) {
  for (const DType dtype : kAllDTypes) {
    for (const bool transposed : {false, true}) {
      for (const Precision precision : kAllPrecisions) {
        CheckLinear({tokens, cols, rows, dtype, transposed, precision, random.Int(0, 1) == 1,
                     static_cast<int>(random.Int(0, 5)), static_cast<int>(random.Int(1, 4))},
                    random, workspace);
      }
    }
  }
}

void LinearSmall() {
  Random random(1);
  Workspace workspace;
  for (const int64_t cols : {1, 2, 7, 8, 10, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 63, 64, 65}) {
    CheckLinearShape(random.Int(1, 8), cols, {random.Int(1, 9), 1}, random, workspace);
  }
}

void LinearTokens() {
  Random random(2);
  Workspace workspace;
  for (int64_t tokens = 1; tokens <= 14; ++tokens) {
    CheckLinearShape(tokens, random.Int(30, 150), {random.Int(1, 70)}, random, workspace);
  }
  // Around the ends of wide tiles.
  for (const int64_t tokens : {15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65}) {
    CheckLinearShape(tokens, random.Int(1, 150), {random.Int(1, 70)}, random, workspace);
  }
  CheckLinearShape(67, 130, {75, 12}, random, workspace);
}

void LinearWide() {
  Random random(3);
  Workspace workspace;
  CheckLinearShape(1, 2048, {300, 64, 33}, random, workspace);
  CheckLinearShape(3, 1408, {130}, random, workspace);
  CheckLinearShape(13, 2049, {100}, random, workspace);
  CheckLinearShape(1, 40, {1500}, random, workspace);
  CheckLinearShape(80, 2048, {40}, random, workspace);  // more tiles than stay in the cache together
}

// Matrices of different dtypes that share an input.
void LinearMixed() {
  Random random(4);
  Workspace workspace;
  TestPool pool(2);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      const int64_t tokens = 9;
      const int64_t cols = 70;
      const std::vector<float> x = random.Normals(tokens * cols);
      std::vector<Weights> weights;
      weights.emplace_back(random, 40, cols, DType::kBFloat16, false, 0.1f);
      weights.emplace_back(random, 33, cols, DType::kFloat32, false, 0.1f);
      weights.emplace_back(random, 20, cols, DType::kFloat16, true, 0.1f);
      weights.emplace_back(random, 20, cols, DType::kBFloat16, true, 0.1f);
      std::vector<WeightMatrix> matrices;
      std::vector<Output> outputs;
      LinearCase c = {tokens, cols, {}, DType::kBFloat16, false, precision, false, 0, 2};
      for (const Weights& w : weights) {
        matrices.push_back(w.matrix());
        c.rows.push_back(w.matrix().rows);
        outputs.emplace_back(tokens * w.matrix().rows);
      }
      std::vector<float*> pointers;
      for (Output& output : outputs) pointers.push_back(output.data());
      Linear({x.data(), tokens, matrices.data(), nullptr, pointers.data(), 4, precision}, workspace, pool);
      CheckLinearValues(c, weights, {}, x, outputs);
    }
  }
}

// Where a kernel adds up in the order of depths, a token's results do not depend on those beside it.
void LinearAlone() {
  Random random(5);
  Workspace workspace;
  TestPool pool(2);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    if (Kernels().matrices.pack == nullptr) continue;
    const int64_t tokens = 40;
    const int64_t cols = random.Int(1, 300);
    const int64_t rows = random.Int(1, 100);
    const Weights weights(random, rows, cols, DType::kBFloat16, false, 0.1f);
    const std::vector<float> x = random.Normals(tokens * cols);
    const auto run = [&](int64_t first, int64_t count) {
      Output y(count * rows);
      float* out = y.data();
      Linear({x.data() + first * cols, count, &weights.matrix(), nullptr, &out, 1, Precision::kBFloat16},
             workspace, pool);
      return std::vector<float>(out, out + count * rows);
    };
    const std::vector<float> together = run(0, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<float> alone = run(t, 1);
      if (std::memcmp(alone.data(), together.data() + t * rows, alone.size() * sizeof(float)) != 0)
        Fail("Linear [%s]: token %lld has other bits alone", isa, static_cast<long long>(t));
    }
  }
}

}  // namespace

std::vector<Group> LinearGroups() {
  return {
      {"linear: odd depths", LinearSmall},
      {"linear: every token count", LinearTokens},
      {"linear: wide matrices", LinearWide},
      {"linear: mixed weight types share an input", LinearMixed},
      {"linear: a token's bits are its own with wide tiles", LinearAlone},
  };
}

}  // namespace switchyard::cpu
