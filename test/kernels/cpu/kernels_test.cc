// Checks every CPU kernel against double-precision loops, on every instruction set this machine has.
//   kernels_test            runs all groups
//   kernels_test --list     prints the groups
//   kernels_test GROUP...   runs these
//   kernels_test --isa      prints the instruction set in use and why SWITCHYARD_CPU_ISA was not followed
#include "../../../kernels/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/machine.h"
#include "../../../kernels/cpu/widen.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

constexpr ExpertsImplementation kAllImplementations[] = {
    ExpertsImplementation::kEager, ExpertsImplementation::kBatchedMm, ExpertsImplementation::kGroupedMm};

// A weight matrix in memory of exactly its size, at an address `shift` bytes off, with its values in double.
class Weights {
 public:
  Weights(Random& random, int64_t rows, int64_t cols, DType dtype, bool transposed, float scale,
          int shift = 0, int64_t extra_stride = 0) {
    const int64_t inner = transposed ? rows : cols;
    const int64_t outer = transposed ? cols : rows;
    const int64_t stride = inner + extra_stride;
    const int64_t elements = (outer - 1) * stride + inner;
    const int64_t size = DTypeSize(dtype);
    bytes_.reset(new char[static_cast<size_t>(elements * size + shift)]);
    matrix_ = {bytes_.get() + shift, dtype, rows, cols, stride, transposed};
    for (int64_t i = 0; i < elements; ++i)
      Put(bytes_.get() + shift + i * size, dtype, random.Normal() * scale);
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t i = transposed ? k * stride + n : n * stride + k;
        values_.push_back(LoadElement(bytes_.get() + shift + i * size, dtype));
      }
    }
  }

  const WeightMatrix& matrix() const { return matrix_; }
  double At(int64_t n, int64_t k) const { return values_[static_cast<size_t>(n * matrix_.cols + k)]; }
  bool Rounds(Precision precision) const {
    return precision == Precision::kBFloat16 && matrix_.dtype == DType::kBFloat16;
  }

  // Row n times x, activations rounded as the precision says; `magnitude` gets the sum of absolute terms.
  double Dot(int64_t n, const double* x, Precision precision, double* magnitude = nullptr) const {
    double sum = 0.0;
    double absolute = 0.0;
    for (int64_t k = 0; k < matrix_.cols; ++k) {
      const double value = Rounds(precision) ? RoundToBf16(static_cast<float>(x[k])) : x[k];
      sum += At(n, k) * value;
      absolute += std::fabs(At(n, k) * value);
    }
    if (magnitude != nullptr) *magnitude = absolute;
    return sum;
  }

 private:
  static void Put(char* at, DType dtype, float value) {
    if (dtype == DType::kFloat32) {
      std::memcpy(at, &value, sizeof(value));
    } else {
      const uint16_t bits = dtype == DType::kBFloat16 ? FloatToBf16(value) : FloatToFp16(value);
      std::memcpy(at, &bits, sizeof(bits));
    }
  }

  std::unique_ptr<char[]> bytes_;
  WeightMatrix matrix_;
  std::vector<float> values_;
};

std::vector<double> Doubles(const float* x, int64_t n) { return std::vector<double>(x, x + n); }

std::string Describe(const char* what, const WeightMatrix& w, int64_t tokens, Precision precision,
                     int threads) {
  char text[256];
  std::snprintf(text, sizeof(text), "%s [%s] %lld tokens, [%lld, %lld] dtype %d%s, precision %d, %d threads",
                what, IsaName(), static_cast<long long>(tokens), static_cast<long long>(w.rows),
                static_cast<long long>(w.cols), static_cast<int>(w.dtype), w.transposed ? " transposed" : "",
                static_cast<int>(precision), threads);
  return text;
}

// ---- Linear
// ---------------------------------------------------------------------------------------------------------

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

// ---- Experts
// --------------------------------------------------------------------------------------------------------

struct Expert {
  Weights gate, up, down;

  Expert(Random& random, int64_t hidden, int64_t intermediate, DType dtype, bool transposed, int shift)
      : gate(random, intermediate, hidden, dtype, transposed, Scale(hidden), shift, random.Int(0, 2)),
        up(random, intermediate, hidden, dtype, transposed, Scale(hidden), shift),
        down(random, hidden, intermediate, dtype, transposed, Scale(intermediate), shift) {}

  static float Scale(int64_t depth) { return 1.0f / std::sqrt(static_cast<float>(depth)); }

  ExpertWeights weights() const { return {gate.matrix(), up.matrix(), down.matrix()}; }

  void AddTo(const double* x, double scale, Precision precision, double* y) const {
    std::vector<double> h(static_cast<size_t>(gate.matrix().rows));
    for (size_t i = 0; i < h.size(); ++i) {
      const double g = gate.Dot(static_cast<int64_t>(i), x, precision);
      h[i] = g / (1.0 + std::exp(-g)) * up.Dot(static_cast<int64_t>(i), x, precision);
    }
    for (int64_t n = 0; n < down.matrix().rows; ++n) y[n] += scale * down.Dot(n, h.data(), precision);
  }
};

// Compares with the error a rounding of h may cause: one unit in the last place of bf16 where activations are
// rounded.
void CheckClose(const std::string& what, const Output& actual, const std::vector<double>& expected,
                bool rounded) {
  actual.CheckGuards(what);
  double square = 0.0;
  for (const double value : expected) square += value * value;
  const double rms = std::sqrt(square / static_cast<double>(std::max<size_t>(expected.size(), 1)));
  const double tolerance = (rounded ? 8e-3 : 1e-5) * rms + 1e-7;
  for (int64_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[static_cast<size_t>(i)]);
    if (!(error <= tolerance)) {
      Fail("%s: value %lld is %g, expected %g +- %g", what.c_str(), static_cast<long long>(i),
           static_cast<double>(actual[i]), expected[static_cast<size_t>(i)], tolerance);
      return;
    }
  }
}

struct MoeCase {
  int64_t tokens, experts, hidden, intermediate;
  int top_k;
  DType dtype;
  bool transposed;
  Precision precision;
  int threads;
  int shift;
};

enum class Routing { kRandom, kOneExpert, kDuplicates };

std::vector<int32_t> Route(const MoeCase& c, Routing routing, Random& random) {
  std::vector<int32_t> indices;
  for (int64_t t = 0; t < c.tokens; ++t) {
    std::vector<int32_t> all(static_cast<size_t>(c.experts));
    for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
    for (int j = 0; j < c.top_k; ++j) {
      const auto pick = static_cast<size_t>(random.Int(j, c.experts - 1));
      std::swap(all[static_cast<size_t>(j)], all[pick]);
      int32_t expert = all[static_cast<size_t>(j)];
      if (routing == Routing::kOneExpert) expert = static_cast<int32_t>((c.experts / 2 + j) % c.experts);
      if (routing == Routing::kDuplicates)
        expert = static_cast<int32_t>(random.Int(0, std::min<int64_t>(1, c.experts - 1)));
      indices.push_back(expert);
    }
  }
  return indices;
}

void CheckMoe(const MoeCase& c, Routing routing, Random& random, Workspace& workspace) {
  std::vector<Expert> experts;
  std::vector<ExpertWeights> weights;
  for (int64_t e = 0; e < c.experts; ++e) {
    experts.emplace_back(random, c.hidden, c.intermediate, c.dtype, c.transposed, c.shift);
  }
  for (const Expert& expert : experts) weights.push_back(expert.weights());
  const std::vector<float> x = random.Normals(c.tokens * c.hidden);
  const std::vector<int32_t> indices = Route(c, routing, random);
  const std::vector<float> mix = random.Normals(c.tokens * c.top_k);
  std::vector<double> expected(static_cast<size_t>(c.tokens * c.hidden));
  for (int64_t t = 0; t < c.tokens; ++t) {
    const std::vector<double> row = Doubles(x.data() + t * c.hidden, c.hidden);
    for (int j = 0; j < c.top_k; ++j) {
      const auto p = static_cast<size_t>(t * c.top_k + j);
      experts[static_cast<size_t>(indices[p])].AddTo(row.data(), mix[p], c.precision,
                                                     expected.data() + t * c.hidden);
    }
  }
  TestPool pool(c.threads);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const ExpertsImplementation implementation : kAllImplementations) {
      Output y(c.tokens * c.hidden);
      MoeExperts({x.data(), c.tokens, weights.data(), c.experts, c.hidden, c.intermediate, indices.data(),
                  mix.data(), c.top_k, implementation, y.data(), c.precision},
                 workspace, pool);
      const std::string what = Describe("MoeExperts", weights[0].gate, c.tokens, c.precision, c.threads) +
                               ", implementation " + std::to_string(static_cast<int>(implementation));
      CheckClose(what, y, expected, experts[0].gate.Rounds(c.precision));
    }
  }
}

void MoeShapes() {
  Random random(5);
  Workspace workspace;
  const int64_t shapes[][2] = {{10, 12}, {12, 20}, {24, 10}, {1, 1}, {33, 17}, {64, 96}, {130, 70}};
  for (const auto& shape : shapes) {
    for (const DType dtype : kAllDTypes) {
      for (const bool transposed : {false, true}) {
        const int64_t experts = random.Int(1, 7);
        const Precision precision = kAllPrecisions[random.Int(0, 1)];
        CheckMoe(
            {random.Int(1, 20), experts, shape[0], shape[1], static_cast<int>(random.Int(1, experts)), dtype,
             transposed, precision, static_cast<int>(random.Int(1, 5)), static_cast<int>(random.Int(0, 3))},
            Routing::kRandom, random, workspace);
      }
    }
  }
}

void MoeRouting() {
  Random random(6);
  Workspace workspace;
  for (const bool transposed : {false, true}) {
    for (const Precision precision : kAllPrecisions) {
      const DType dtype = DType::kBFloat16;
      // One token; every expert chosen; all tokens on one expert; the same expert twice for a token; idle
      // experts.
      CheckMoe({1, 6, 96, 40, 2, dtype, transposed, precision, 3, 1}, Routing::kRandom, random, workspace);
      CheckMoe({5, 4, 64, 40, 4, dtype, transposed, precision, 2, 0}, Routing::kRandom, random, workspace);
      CheckMoe({70, 5, 64, 40, 1, dtype, transposed, precision, 4, 0}, Routing::kOneExpert, random,
               workspace);
      CheckMoe({20, 5, 64, 40, 3, dtype, transposed, precision, 4, 0}, Routing::kDuplicates, random,
               workspace);
      CheckMoe({3, 64, 32, 16, 2, dtype, transposed, precision, 2, 0}, Routing::kRandom, random, workspace);
    }
  }
}

void MoeNoTokens() {
  Random random(7);
  Workspace workspace;
  TestPool pool(2);
  const Expert expert(random, 16, 8, DType::kBFloat16, false, 0);
  const ExpertWeights weights = expert.weights();
  Output y(1);
  Output extra(1);
  float* y_data = y.data();
  for (const ExpertsImplementation implementation : kAllImplementations) {
    MoeExperts(
        {nullptr, 0, &weights, 1, 16, 8, nullptr, nullptr, 1, implementation, y.data(), Precision::kFloat32},
        workspace, pool);
  }
  Linear({nullptr, 0, &weights.gate, nullptr, &y_data, 1, Precision::kFloat32}, workspace, pool);
  GatedMlp({nullptr, 0, weights.gate, weights.up, weights.down, {}, y.data(), Precision::kFloat32}, workspace,
           pool);
  Router({nullptr, 0, weights.gate, 2, true, y.data(), nullptr, extra.data(), Precision::kFloat32}, workspace,
         pool);
  EmbeddingRows(weights.gate, nullptr, 0, y.data(), pool);
  if (!std::isnan(y[0]) || !std::isnan(extra[0]))
    Fail("a kernel wrote an output although there were no tokens");
}

void GatedMlpValues() {
  Random random(8);
  Workspace workspace;
  for (const DType dtype : kAllDTypes) {
    for (const bool transposed : {false, true}) {
      for (const int64_t tokens : {1, 5, 23}) {
        const int64_t hidden = random.Int(1, 100);
        const int64_t intermediate = random.Int(1, 150);
        const Precision precision = kAllPrecisions[random.Int(0, 1)];
        const Expert expert(random, hidden, intermediate, dtype, transposed,
                            static_cast<int>(random.Int(0, 3)));
        const Weights output_gate(random, 1, hidden, dtype, false, 0.3f);
        const bool gated = random.Int(0, 1) == 1;
        const std::vector<float> x = random.Normals(tokens * hidden);
        std::vector<double> expected(static_cast<size_t>(tokens * hidden));
        for (int64_t t = 0; t < tokens; ++t) {
          const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
          const double gate = 1.0 / (1.0 + std::exp(-output_gate.Dot(0, row.data(), precision)));
          expert.AddTo(row.data(), gated ? gate : 1.0, precision, expected.data() + t * hidden);
        }
        TestPool pool(static_cast<int>(random.Int(1, 4)));
        for (const char* isa : Isas()) {
          SelectIsa(isa);
          Output y(tokens * hidden);
          GatedMlp({x.data(), tokens, expert.gate.matrix(), expert.up.matrix(), expert.down.matrix(),
                    gated ? output_gate.matrix() : WeightMatrix{}, y.data(), precision},
                   workspace, pool);
          CheckClose(Describe("GatedMlp", expert.gate.matrix(), tokens, precision, pool.NumThreads()), y,
                     expected, expert.gate.Rounds(precision));
        }
      }
    }
  }
}

// ---- Router
// ---------------------------------------------------------------------------------------------------------

void CheckRoute(const RouterArgs& args, const std::string& what) {
  const int64_t experts = args.weight.rows;
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float* logits = args.logits + t * experts;
    std::vector<int32_t> order(static_cast<size_t>(experts));
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    double sum = 0.0;
    double chosen = 0.0;
    for (int64_t e = 0; e < experts; ++e) sum += std::exp(static_cast<double>(logits[e]) - logits[order[0]]);
    for (int j = 0; j < args.top_k; ++j)
      chosen += std::exp(static_cast<double>(logits[order[static_cast<size_t>(j)]]) - logits[order[0]]);
    for (int j = 0; j < args.top_k; ++j) {
      const int32_t e = order[static_cast<size_t>(j)];
      const double weight =
          std::exp(static_cast<double>(logits[e]) - logits[order[0]]) / (args.normalize ? chosen : sum);
      const int64_t p = t * args.top_k + j;
      if (args.indices[p] != e)
        Fail("%s: choice %d of token %lld is %d, expected %d", what.c_str(), j, static_cast<long long>(t),
             args.indices[p], e);
      if (!(std::fabs(args.weights[p] - weight) <= 2e-6 * weight + 1e-12)) {
        Fail("%s: weight %d of token %lld is %g, expected %g", what.c_str(), j, static_cast<long long>(t),
             static_cast<double>(args.weights[p]), weight);
      }
    }
  }
}

void RouterValues() {
  Random random(9);
  Workspace workspace;
  for (int round = 0; round < 40; ++round) {
    const int64_t tokens = random.Int(1, 40);
    const int64_t experts = random.Int(1, 130);
    const int64_t hidden = random.Int(1, 200);
    const int top_k = static_cast<int>(random.Int(1, std::min<int64_t>(experts, 9)));
    const DType dtype = kAllDTypes[round % 3];
    Weights weights(random, experts, hidden, dtype, random.Int(0, 3) == 0, 0.5f, round % 4);
    const std::vector<float> x = random.Normals(tokens * hidden);
    TestPool pool(static_cast<int>(random.Int(1, 4)));
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      Output logits(tokens * experts), mix(tokens * top_k);
      std::vector<int32_t> indices(static_cast<size_t>(tokens * top_k), -1);
      const RouterArgs args = {x.data(),       tokens,         weights.matrix(),
                               top_k,          round % 2 == 0, logits.data(),
                               indices.data(), mix.data(),     kAllPrecisions[round % 2]};
      Router(args, workspace, pool);
      const std::string what =
          Describe("Router", weights.matrix(), tokens, args.precision, pool.NumThreads());
      logits.CheckGuards(what);
      mix.CheckGuards(what);
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
        for (int64_t e = 0; e < experts; ++e) {
          double magnitude = 0.0;
          const double expected = weights.Dot(e, row.data(), Precision::kFloat32, &magnitude);
          if (!(std::fabs(logits[t * experts + e] - expected) <= 1e-6 * magnitude + 1e-7)) {
            Fail("%s: logit is %g, expected %g", what.c_str(), static_cast<double>(logits[t * experts + e]),
                 expected);
          }
        }
      }
      CheckRoute(args, what);
    }
  }
}

// Equal logits: the lower expert comes first.
void RouterTies() {
  Workspace workspace;
  TestPool pool(1);
  const std::vector<float> weight = {1, 2, 2, 0, 2, 1, 3};
  const float x[] = {1.0f, 0.0f};
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Output logits(14), mix(12);
    int32_t indices[12];
    Router({x,
            2,
            {weight.data(), DType::kFloat32, 7, 1, 1, false},
            6,
            true,
            logits.data(),
            indices,
            mix.data(),
            Precision::kFloat32},
           workspace, pool);
    const int32_t expected[] = {6, 1, 2, 4, 0, 5, 0, 1, 2, 3, 4, 5};
    if (std::memcmp(indices, expected, sizeof(expected)) != 0)
      Fail("[%s] ties do not go to the lower expert", isa);
  }
}

// ---- Small things
// ---------------------------------------------------------------------------------------------------

void FloatTypes() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = (half >> 10) & 31;
    const int fraction = half & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) expected = fraction == 0 ? INFINITY : NAN;
    if (half & 0x8000) expected = -expected;
    const float wide = Fp16ToFloat(half);
    if (std::isnan(expected) ? !std::isnan(wide) : wide != static_cast<float>(expected))
      Fail("fp16 0x%04x widens to %g", bits, static_cast<double>(wide));
    if (!std::isnan(wide) && FloatToFp16(wide) != half) Fail("fp16 0x%04x does not survive", bits);
    const float bf16 = Bf16ToFloat(half);
    if (!std::isnan(bf16) && FloatToBf16(bf16) != half) Fail("bf16 0x%04x does not survive", bits);
    if (std::isnan(bf16) && !std::isnan(RoundToBf16(bf16))) Fail("bf16 NaN 0x%04x is lost", bits);
  }
  // Halfway cases go to even.
  if (FloatToBf16(FloatFromBits(0x3f808000)) != 0x3f80) Fail("bf16 rounds 1 + half an ulp up");
  if (FloatToBf16(FloatFromBits(0x3f818000)) != 0x3f82) Fail("bf16 rounds an odd halfway case down");
  if (FloatToFp16(65520.0f) != 0x7c00) Fail("fp16 overflow is not infinite");
  if (FloatToFp16(std::ldexp(1.0f, -25)) != 0) Fail("half of the smallest fp16 does not round to even");
  if (FloatToFp16(std::ldexp(1.5f, -25)) != 1) Fail("fp16 subnormal rounding");
}

void ElementwiseKernels() {
  Random random(10);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    const KernelTable& table = Kernels();
    for (const int64_t n : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 1001}) {
      std::vector<float> x = random.Normals(n);
      std::vector<float> up = random.Normals(n);
      for (float& value : x) value *= 20.0f;
      if (n > 15) x[3] = 200.0f, x[7] = -200.0f, x[11] = -87.5f, x[14] = 0.0f;
      Output silu(n), exponentials(n), rounded(n), scaled(n);
      table.silu_mul(x.data(), up.data(), n, silu.data());
      const float top = *std::max_element(x.begin(), x.end());
      const float sum = table.exp_sum(x.data(), 0.5f, 0.5f * top, n, exponentials.data());
      if (table.max(x.data(), n) != top) Fail("[%s] largest of %lld", isa, static_cast<long long>(n));
      table.round_bf16(x.data(), n, rounded.data());
      table.scale_add(x.data(), 0.5f, n, scaled.data(), false);
      table.scale_add(up.data(), -2.0f, n, scaled.data(), true);
      double expected_sum = 0.0;
      for (int64_t i = 0; i < n; ++i) {
        const double v = x[static_cast<size_t>(i)];
        const double u = up[static_cast<size_t>(i)];
        const double silu_expected = v / (1.0 + std::exp(-v)) * u;
        const double exp_expected =
            std::exp(static_cast<double>(0.5f * x[static_cast<size_t>(i)] - 0.5f * top));
        expected_sum += exp_expected;
        if (!(std::fabs(silu[i] - silu_expected) <= 1e-6 * std::fabs(silu_expected) + 1e-30))
          Fail("[%s] silu(%g) * %g is %g", isa, v, u, static_cast<double>(silu[i]));
        if (!(std::fabs(exponentials[i] - exp_expected) <= 1e-6 * exp_expected + 1e-37))
          Fail("[%s] exp(%g) is %g", isa, v - top, static_cast<double>(exponentials[i]));
        if (rounded[i] != RoundToBf16(x[static_cast<size_t>(i)])) Fail("[%s] bf16 rounding of %g", isa, v);
        if (!(std::fabs(scaled[i] - (0.5 * v - 2.0 * u)) <= 1e-5)) Fail("[%s] scale_add", isa);
      }
      if (!(std::fabs(sum - expected_sum) <= 1e-6 * expected_sum)) Fail("[%s] sum of exponentials", isa);
      for (const Output* output : {&silu, &exponentials, &rounded, &scaled}) output->CheckGuards(isa);
    }
  }
}

void NormAndRotation() {
  Random random(17);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int64_t n : {2, 6, 10, 16, 32, 34, 64, 80, 128, 254}) {
      for (const bool normed : {false, true}) {
        const size_t pairs = static_cast<size_t>(random.Int(0, 1) == 0 ? n / 2 : random.Int(0, n / 2));
        const std::vector<float> x = random.Normals(n), norm = random.Normals(n);
        std::vector<float> cosines, sines;
        for (const float angle : random.Normals(static_cast<int64_t>(pairs))) {
          cosines.push_back(std::cos(angle));
          sines.push_back(std::sin(angle));
        }
        Output out(n);
        Kernels().norm_rotate(x.data(), normed ? norm.data() : nullptr, 0.01f, cosines.data(), sines.data(),
                              static_cast<int64_t>(pairs), n, out.data());
        double squares = 0.0;
        for (const float v : x) squares += static_cast<double>(v) * v;
        const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 0.01);
        const auto value = [&](size_t i) { return normed ? x[i] * scale * norm[i] : x[i]; };
        for (size_t i = 0; i < pairs; ++i) {
          const double a = value(i), b = value(pairs + i);
          const double first = a * cosines[i] - b * sines[i], second = b * cosines[i] + a * sines[i];
          if (!(std::fabs(out[static_cast<int64_t>(i)] - first) <= 1e-5) ||
              !(std::fabs(out[static_cast<int64_t>(pairs + i)] - second) <= 1e-5))
            Fail("[%s] pair %zu of a head of %lld", isa, i, static_cast<long long>(n));
        }
        for (size_t i = 2 * pairs; i < x.size(); ++i) {
          if (!(std::fabs(out[static_cast<int64_t>(i)] - value(i)) <= 1e-5))
            Fail("[%s] value %zu of a head of %lld, which is not rotated", isa, i, static_cast<long long>(n));
        }
        out.CheckGuards(isa);
      }
    }
  }
}

// Exactly as one by one, special values included; what was narrowed comes back.
void Narrowing() {
  Random random(18);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float special[] = {kInfinity,     -kInfinity, std::nanf(""), 0.0f,        -0.0f,
                           65519.0f,      65520.0f,   -1e38f,        3e-8f,       5.9604645e-8f,
                           2.9802322e-8f, 6.1e-5f,    1e-40f,        1.00390625f, 1.01171875f};
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int64_t n : {1, 3, 7, 8, 15, 16, 17, 31, 33, 64, 129}) {
      std::vector<float> x = random.Normals(n);
      for (int64_t i = 0; i < n; i += 2) x[static_cast<size_t>(i)] = special[random.Int(0, 14)];
      for (const DType dtype : kAllDTypes) {
        const int64_t size = DTypeSize(dtype);
        std::vector<char> narrow(static_cast<size_t>(n * size + 1), 'x');
        Kernels().narrow[DTypeIndex(dtype)](x.data(), n, narrow.data());
        if (narrow.back() != 'x')
          Fail("[%s] narrowing %lld values wrote behind them", isa, static_cast<long long>(n));
        for (int64_t i = 0; i < n; ++i) {
          const float value = x[static_cast<size_t>(i)];
          const float expected = dtype == DType::kFloat32    ? value
                                 : dtype == DType::kBFloat16 ? RoundToBf16(value)
                                                             : Fp16ToFloat(FloatToFp16(value));
          const float actual = LoadElement(narrow.data() + i * size, dtype);
          const bool same =
              std::isnan(expected) ? std::isnan(actual) : std::memcmp(&actual, &expected, sizeof(float)) == 0;
          if (!same)
            Fail("[%s] dtype %d of %g is %g, expected %g", isa, static_cast<int>(dtype),
                 static_cast<double>(value), static_cast<double>(actual), static_cast<double>(expected));
        }
      }
    }
  }
}

void Transposes() {
  Random random(11);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (int round = 0; round < 30; ++round) {
      const int64_t rows = random.Int(1, 80);
      const int64_t columns = random.Int(1, 80);
      for (const int64_t size : {2, 4}) {
        const int64_t stride = columns * size + random.Int(0, 5);
        const int64_t dst_stride = (rows + random.Int(0, 9)) * size;
        std::unique_ptr<char[]> src(new char[static_cast<size_t>(stride * (rows - 1) + columns * size)]);
        std::unique_ptr<char[]> dst(new char[static_cast<size_t>(dst_stride * (columns - 1) + rows * size)]);
        for (int64_t i = 0; i < stride * (rows - 1) + columns * size; ++i)
          src[static_cast<size_t>(i)] = static_cast<char>(random.Int(0, 255));
        (size == 2 ? Kernels().transpose16 : Kernels().transpose32)(src.get(), stride, rows, columns,
                                                                    dst.get(), dst_stride);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < columns; ++c) {
            if (std::memcmp(&src[static_cast<size_t>(r * stride + c * size)],
                            &dst[static_cast<size_t>(c * dst_stride + r * size)],
                            static_cast<size_t>(size)) != 0) {
              Fail("[%s] transpose of [%lld, %lld] elements of %lld bytes at (%lld, %lld)", isa,
                   static_cast<long long>(rows), static_cast<long long>(columns),
                   static_cast<long long>(size), static_cast<long long>(r), static_cast<long long>(c));
              r = rows;
              break;
            }
          }
        }
      }
    }
  }
}

void Embeddings() {
  Random random(12);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const DType dtype : kAllDTypes) {
      for (const bool transposed : {false, true}) {
        const int64_t cols = random.Int(1, 300);
        const Weights table(random, 50, cols, dtype, transposed, 1.0f, 3, 2);
        const int64_t count = dtype == DType::kFloat32 ? 400 : 7;
        std::vector<int64_t> ids;
        for (int64_t i = 0; i < count; ++i) ids.push_back(random.Int(0, 49));
        Output out(count * cols);
        TestPool pool(3);
        EmbeddingRows(table.matrix(), ids.data(), count, out.data(), pool);
        out.CheckGuards("EmbeddingRows");
        for (int64_t i = 0; i < count * cols; ++i) {
          if (out[i] != table.At(ids[static_cast<size_t>(i / cols)], i % cols)) {
            Fail("[%s] embedding value %lld of dtype %d", isa, static_cast<long long>(i),
                 static_cast<int>(dtype));
            break;
          }
        }
      }
    }
  }
}

// The same bits whatever the number of threads.
void ThreadCounts() {
  Random random(13);
  Workspace workspace;
  const int64_t tokens = 45;
  const int64_t hidden = 200;
  const int64_t intermediate = 330;
  std::vector<Expert> experts;
  std::vector<ExpertWeights> weights;
  for (int e = 0; e < 3; ++e) experts.emplace_back(random, hidden, intermediate, DType::kBFloat16, e == 2, 0);
  for (const Expert& expert : experts) weights.push_back(expert.weights());
  const std::vector<float> x = random.Normals(tokens * hidden);
  const MoeCase c = {tokens, 3, hidden, intermediate, 2, DType::kBFloat16, false, Precision::kFloat32, 1, 0};
  const std::vector<int32_t> indices = Route(c, Routing::kRandom, random);
  const std::vector<float> mix = random.Normals(tokens * 2);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      for (const ExpertsImplementation implementation : kAllImplementations) {
        std::vector<float> first;
        for (const int threads : {1, 2, 3, 7, 16, 64}) {
          TestPool pool(threads);
          Output y(tokens * hidden);
          MoeExperts({x.data(), tokens, weights.data(), 3, hidden, intermediate, indices.data(), mix.data(),
                      2, implementation, y.data(), precision},
                     workspace, pool);
          y.CheckGuards("MoeExperts");
          if (first.empty()) first.assign(y.data(), y.data() + tokens * hidden);
          if (std::memcmp(first.data(), y.data(), first.size() * sizeof(float)) != 0) {
            Fail("[%s] implementation %d gives other bits on %d threads than on one", isa,
                 static_cast<int>(implementation), threads);
          }
        }
      }
    }
  }
}

// Long inputs are cut into chunks: scratch stays bounded and the values do not change.
void BoundedScratch() {
  Random random(14);
  const int64_t tokens = 8192;
  const int64_t hidden = 2048;
  const int64_t intermediate = 1;
  const int top_k = 8;
  const Expert expert(random, hidden, intermediate, DType::kBFloat16, false, 0);
  const std::vector<ExpertWeights> weights(8, expert.weights());
  std::vector<float> x(static_cast<size_t>(tokens * hidden), 0.0f);
  std::vector<int32_t> indices;
  for (int64_t p = 0; p < tokens * top_k; ++p) indices.push_back(static_cast<int32_t>(p % top_k));
  for (int64_t t = 0; t < tokens; ++t) x[static_cast<size_t>(t * hidden + t % hidden)] = 1.0f;
  const std::vector<float> mix(static_cast<size_t>(tokens * top_k), 0.125f);
  SelectIsa(Isas()[0]);
  Workspace workspace;
  TestPool pool(2);
  Output y(tokens * hidden);
  MoeExperts({x.data(), tokens, weights.data(), 8, hidden, intermediate, indices.data(), mix.data(), top_k,
              ExpertsImplementation::kGroupedMm, y.data(), Precision::kFloat32},
             workspace, pool);
  y.CheckGuards("MoeExperts");
  if (workspace.capacity() > (128u << 20)) Fail("scratch grew to %zu bytes", workspace.capacity());
  for (const int64_t t : {int64_t{0}, tokens / 2, tokens - 1}) {
    std::vector<double> expected(static_cast<size_t>(hidden));
    const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
    expert.AddTo(row.data(), 1.0, Precision::kFloat32, expected.data());
    for (int64_t n = 0; n < hidden; ++n) {
      if (!(std::fabs(y[t * hidden + n] - expected[static_cast<size_t>(n)]) <= 1e-5)) {
        Fail("token %lld of a long input differs", static_cast<long long>(t));
        break;
      }
    }
  }
}

void WorkspaceReuse() {
  Workspace workspace;
  for (int round = 0; round < 3; ++round) {
    workspace.Reset();
    char* a = workspace.Take<char>(100);
    double* b = workspace.Take<double>(1000);
    const Workspace::Mark mark = workspace.mark();
    float* c = workspace.Take<float>(5000);
    std::memset(a, 1, 100);
    std::fill_n(b, 1000, 2.0);
    std::fill_n(c, 5000, 3.0f);
    workspace.Rewind(mark);
    if (workspace.Take<float>(5000) != c) Fail("rewinding does not give the memory back");
    if (a[99] != 1 || b[0] != 2.0 || b[999] != 2.0 || c[0] != 3.0f) Fail("blocks overlap");
    for (const void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)}) {
      if (reinterpret_cast<uintptr_t>(p) % 64 != 0) Fail("%p is not aligned to 64 bytes", p);
    }
  }
  const size_t settled = workspace.capacity();
  workspace.Reset();
  workspace.Take<char>(20000);
  if (workspace.capacity() != settled) Fail("memory grew although it was large enough");
  Workspace moved(std::move(workspace));
  if (moved.capacity() != settled) Fail("moving lost the memory");
}

void IsaSelection() {
  const std::vector<const char*> names = Isas();
  if (names.empty() || std::strcmp(names.back(), "portable") != 0) Fail("the portable path is missing");
  for (const char* name : names) {
    if (!SelectIsa(name) || std::strcmp(IsaName(), name) != 0) Fail("cannot select %s", name);
  }
  SelectIsa(names[0]);
  if (SelectIsa("sse9") || std::strcmp(IsaName(), names[0]) != 0)
    Fail("an unknown name changed the selection");
}

void MachineLimits() {
  TestPool pool(2);
  std::vector<char> buffer(8 << 20, 1);
  const ReadBandwidth bandwidth =
      MeasureReadBandwidth(buffer.data(), static_cast<int64_t>(buffer.size()), 0.02, pool);
  if (!(bandwidth.gigabytes_per_second > 0.01))
    Fail("read bandwidth is %g GB/s", bandwidth.gigabytes_per_second);
  for (const Precision precision : kAllPrecisions) {
    const double gflops = MeasureFlops(precision, 0.02, pool);
    if (!(gflops > 0.01)) Fail("speed is %g GFLOP/s", gflops);
  }
}

// The first `count` ids of a stable sort by falling value, with NaN as -inf.
void CheckTopCandidates(const std::vector<float>& logits, int64_t rows, int64_t count, int threads) {
  const int64_t vocab = static_cast<int64_t>(logits.size()) / rows;
  std::vector<float> values(static_cast<size_t>(rows * count));
  std::vector<int32_t> ids(values.size());
  TestPool pool(threads);
  Workspace workspace;
  TopCandidates({logits.data(), rows, vocab, count, values.data(), ids.data()}, workspace, pool);
  for (int64_t row = 0; row < rows; ++row) {
    const auto value = [&](int32_t id) {
      const float x = logits[static_cast<size_t>(row * vocab + id)];
      return std::isnan(x) ? -std::numeric_limits<float>::infinity() : x;
    };
    std::vector<int32_t> order(static_cast<size_t>(vocab));
    for (int64_t id = 0; id < vocab; ++id) order[static_cast<size_t>(id)] = static_cast<int32_t>(id);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
    for (int64_t i = 0; i < count; ++i) {
      const int32_t expected = order[static_cast<size_t>(i)];
      const size_t at = static_cast<size_t>(row * count + i);
      if (ids[at] != expected || values[at] != value(expected)) {
        Fail("%lld of %lld x %lld, %d threads: row %lld, place %lld is %d (%g), expected %d (%g)",
             static_cast<long long>(count), static_cast<long long>(rows), static_cast<long long>(vocab),
             threads, static_cast<long long>(row), static_cast<long long>(i), ids[at], values[at], expected,
             value(expected));
        return;
      }
    }
  }
}

void TopCandidatesSorted() {
  Random random(77);
  for (const int64_t rows : {1, 3}) {
    for (const int64_t vocab : {1, 2, 63, 64, 65, 1000, 16384, 40001}) {
      std::vector<float> logits = random.Normals(rows * vocab);
      for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{50}, int64_t{300}, vocab}) {
        if (count > vocab) continue;
        for (const int threads : {1, 2, 7}) CheckTopCandidates(logits, rows, count, threads);
      }
    }
  }
}

void TopCandidatesTies() {
  Random random(78);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float kSpecial[] = {std::nanf(""), -kInfinity, kInfinity, 0.0f, -0.0f};
  for (const int64_t vocab : {5, 200, 40000}) {
    std::vector<float> few(static_cast<size_t>(vocab)), special(few.size()), nothing(few.size());
    for (float& value : few) value = static_cast<float>(random.Int(0, 3));
    for (float& value : special) value = kSpecial[random.Int(0, 4)];
    for (float& value : nothing) value = kSpecial[random.Int(0, 1)];
    for (const int64_t count : {int64_t{1}, int64_t{5}, std::min<int64_t>(vocab, 150), vocab}) {
      for (const auto& logits : {few, special, nothing}) CheckTopCandidates(logits, 1, count, 2);
    }
  }
}

const std::vector<Group> kGroups = [] {
  std::vector<Group> groups = {
      {"float types round to nearest even and survive widening", FloatTypes},
      {"workspace aligns, rewinds and settles", WorkspaceReuse},
      {"instruction sets are selected by name", IsaSelection},
      {"element-wise kernels match double precision", ElementwiseKernels},
      {"norm and rotation of a head match double precision", NormAndRotation},
      {"narrowing rounds as one by one", Narrowing},
      {"transposes move every element", Transposes},
      {"embedding rows are widened exactly", Embeddings},
      {"linear: odd depths", LinearSmall},
      {"linear: every token count", LinearTokens},
      {"linear: wide matrices", LinearWide},
      {"linear: mixed weight types share an input", LinearMixed},
      {"gated mlp, with and without output gate", GatedMlpValues},
      {"router: logits, choices and weights", RouterValues},
      {"router: ties go to the lower expert", RouterTies},
      {"experts: odd shapes, types and layouts", MoeShapes},
      {"experts: one token, one expert, all experts, idle experts, duplicates", MoeRouting},
      {"no tokens: nothing is written", MoeNoTokens},
      {"experts: same bits on 1 to 64 threads", ThreadCounts},
      {"experts: long inputs need bounded scratch", BoundedScratch},
      {"top candidates match a sort", TopCandidatesSorted},
      {"top candidates: ties, NaN and infinities", TopCandidatesTies},
      {"machine limits are measured", MachineLimits},
  };
  const std::vector<Group> attention = AttentionGroups();
  groups.insert(groups.end(), attention.begin(), attention.end());
  return groups;
}();

int Main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--list") == 0) {
    for (const Group& group : kGroups) std::puts(group.name);
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], "--isa") == 0) {
    std::puts(IsaName());
    if (*IsaError() != '\0') std::puts(IsaError());
    return 0;
  }
  int run = 0;
  for (const Group& group : kGroups) {
    const bool wanted = argc == 1 || std::any_of(argv + 1, argv + argc, [&](const char* name) {
                          return std::strcmp(name, group.name) == 0;
                        });
    if (!wanted) continue;
    const int before = failures;
    group.run();
    ++run;
    std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", group.name);
    std::fflush(stdout);
  }
  if (run == 0) Fail("no group of that name; --list shows them");
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cpu

int main(int argc, char** argv) { return switchyard::cpu::Main(argc, argv); }
