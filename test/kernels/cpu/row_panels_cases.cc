// Products with weights in row panels, against double precision and the portable kernels on rows.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../../../kernels/common/row_panels.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing_weights.h"

namespace switchyard::cpu {
namespace {

// A matrix in row panels, behind another one.
class Panelled {
 public:
  explicit Panelled(const Weights& weights) : rows_(weights.matrix()) {
    const size_t before = static_cast<size_t>(kPanelRows * rows_.cols);
    panels_ = std::make_unique<uint16_t[]>(before + static_cast<size_t>(rows_.rows * rows_.cols));
    uint16_t* first = panels_.get() + before;
    for (int64_t n = 0; n < rows_.rows; ++n) {
      uint16_t* panel = first + n / kPanelRows * kPanelRows * rows_.cols;
      for (int64_t k = 0; k < rows_.cols; ++k) {
        panel[(k / 2 * kPanelRows + n % kPanelRows) * 2 + k % 2] =
            FloatToBf16(static_cast<float>(weights.At(n, k)));
      }
    }
    nothing_.assign(static_cast<size_t>(rows_.rows * rows_.stride), FloatToBf16(std::nanf("")));
    panels_at_ = static_cast<int64_t>(before * sizeof(uint16_t));
  }

  void Complete() { slot_.complete = reinterpret_cast<const std::byte*>(panels_.get()); }

  // Its rows are no numbers where they are not to be read.
  WeightMatrix matrix(Precision precision) const {
    WeightMatrix matrix = rows_;
    if (slot_.complete != nullptr && ReadsRowPanels(precision)) matrix.data = nothing_.data();
    matrix.panels = &slot_;
    matrix.panels_at = panels_at_;
    return matrix;
  }

 private:
  WeightMatrix rows_;
  std::unique_ptr<uint16_t[]> panels_;
  std::vector<uint16_t> nothing_;
  RowPanels slot_;
  int64_t panels_at_;
};

// A number of rows or depths that panels may have.
int64_t Ragged(Random& random, int64_t unit, int64_t most) { return unit * random.Int(1, most / unit); }

void CheckLinear(int64_t tokens, int64_t rows, int64_t cols, Precision precision, Random& random) {
  const Weights weights(random, rows, cols, DType::kBFloat16, false, 0.1f, 0, random.Int(0, 3));
  const std::vector<float> x = random.Normals(tokens * cols);
  const int threads = static_cast<int>(random.Int(1, 4));
  TestPool pool(threads);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Panelled panelled(weights);
    for (const bool complete : {false, true}) {
      if (complete) panelled.Complete();
      const std::string what = Describe("Linear in panels", weights.matrix(), tokens, precision, threads);
      Output y(tokens * rows);
      float* output = y.data();
      const WeightMatrix matrix = panelled.matrix(precision);
      Linear({x.data(), tokens, &matrix, nullptr, &output, 1, precision}, workspace, pool);
      y.CheckGuards(what);
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> row = Doubles(x.data() + t * cols, cols);
        for (int64_t n = 0; n < rows; ++n) {
          double magnitude = 0.0;
          const double expected = weights.Dot(n, row.data(), precision, &magnitude);
          const double actual = y[t * rows + n];
          if (!(std::fabs(actual - expected) <= 2e-6 * magnitude + 1e-7))
            Fail("%s: output (%lld, %lld) is %g, expected %g", what.c_str(), static_cast<long long>(t),
                 static_cast<long long>(n), actual, expected);
        }
      }
    }
  }
}

void LinearShapes() {
  Random random(31);
  for (int64_t tokens = 1; tokens <= 14; ++tokens) {
    for (const Precision precision : kAllPrecisions)
      CheckLinear(tokens, Ragged(random, kPanelRows, 160), Ragged(random, 2, 140), precision, random);
  }
  CheckLinear(1, 1504, 66, Precision::kBFloat16, random);
  CheckLinear(80, 64, 2048, Precision::kBFloat16, random);  // more tiles than stay in the cache together
}

// A token gets the same bits whatever else is in its call.
void TokensAlone() {
  Random random(32);
  Workspace workspace;
  TestPool pool(3);
  const int64_t rows = 96, cols = 134, tokens = 29;
  const Weights weights(random, rows, cols, DType::kBFloat16, false, 0.1f);
  const std::vector<float> x = random.Normals(tokens * cols);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    if (!ReadsRowPanels(Precision::kBFloat16)) continue;
    Panelled panelled(weights);
    panelled.Complete();
    const WeightMatrix matrix = panelled.matrix(Precision::kBFloat16);
    const auto multiply = [&](int64_t first, int64_t count) {
      Output y(count * rows);
      float* output = y.data();
      Linear({x.data() + first * cols, count, &matrix, nullptr, &output, 1, Precision::kBFloat16}, workspace,
             pool);
      return std::vector<float>(y.data(), y.data() + count * rows);
    };
    const std::vector<float> together = multiply(0, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<float> alone = multiply(t, 1);
      if (!std::equal(alone.begin(), alone.end(), together.begin() + t * rows))
        Fail("[%s] token %lld is not what it is alone", isa, static_cast<long long>(t));
    }
  }
}

struct Expert {
  Weights gate, up, down;
  Panelled gate_panels, up_panels, down_panels;

  Expert(Random& random, int64_t hidden, int64_t intermediate)
      : gate(random, intermediate, hidden, DType::kBFloat16, false, 0.1f),
        up(random, intermediate, hidden, DType::kBFloat16, false, 0.1f),
        down(random, hidden, intermediate, DType::kBFloat16, false, 0.1f),
        gate_panels(gate),
        up_panels(up),
        down_panels(down) {}

  ExpertWeights InRows() const { return {gate.matrix(), up.matrix(), down.matrix()}; }
  ExpertWeights InPanels(Precision precision) const {
    return {gate_panels.matrix(precision), up_panels.matrix(precision), down_panels.matrix(precision)};
  }
};

// Experts of which some are in panels already.
void Experts() {
  Random random(33);
  Workspace workspace;
  TestPool pool(3);
  for (const int64_t tokens : {1, 2, 7, 40}) {
    for (const Precision precision : kAllPrecisions) {
      const int64_t count = 5, hidden = Ragged(random, kPanelRows, 96);
      const int64_t intermediate = Ragged(random, kPanelRows, 128);
      const int top_k = 3;
      std::vector<std::unique_ptr<Expert>> experts;
      for (int64_t e = 0; e < count; ++e) {
        experts.push_back(std::make_unique<Expert>(random, hidden, intermediate));
        if (e % 2 == 1) continue;
        experts.back()->gate_panels.Complete();
        experts.back()->down_panels.Complete();
        if (e > 0) experts.back()->up_panels.Complete();
      }
      const std::vector<float> x = random.Normals(tokens * hidden), mix = random.Normals(tokens * top_k);
      std::vector<int32_t> indices;
      for (int64_t i = 0; i < tokens * top_k; ++i)
        indices.push_back(static_cast<int32_t>((random.Int(0, 1) + i) % count));
      const auto run = [&](const std::vector<ExpertWeights>& weights, ExpertsImplementation implementation) {
        Output y(tokens * hidden);
        MoeExperts({x.data(), tokens, weights.data(), count, hidden, intermediate, indices.data(), mix.data(),
                    top_k, implementation, y.data(), precision},
                   workspace, pool);
        y.CheckGuards("MoeExperts in panels");
        return std::vector<float>(y.data(), y.data() + tokens * hidden);
      };
      std::vector<ExpertWeights> rows;
      for (const auto& expert : experts) rows.push_back(expert->InRows());
      SelectIsa("portable");
      const std::vector<float> expected = run(rows, ExpertsImplementation::kEager);
      double square = 0.0;
      for (const float value : expected) square += value * value;
      // Sums in another order may round the activations of the second product to their other neighbours.
      const double rms = std::sqrt(square / static_cast<double>(expected.size()));
      const double tolerance = (precision == Precision::kBFloat16 ? 8e-3 : 1e-5) * rms + 1e-7;
      for (const char* isa : Isas()) {
        SelectIsa(isa);
        std::vector<ExpertWeights> panels;
        for (const auto& expert : experts) panels.push_back(expert->InPanels(precision));
        for (const ExpertsImplementation implementation : kAllImplementations) {
          const std::vector<float> actual = run(panels, implementation);
          for (size_t i = 0; i < actual.size(); ++i) {
            if (!(std::fabs(actual[i] - expected[i]) <= tolerance))
              Fail("MoeExperts in panels [%s], %lld tokens: value %zu is %g, expected %g", isa,
                   static_cast<long long>(tokens), i, static_cast<double>(actual[i]),
                   static_cast<double>(expected[i]));
          }
        }
      }
    }
  }
}

}  // namespace

std::vector<Group> RowPanelsGroups() {
  return {
      {"row panels: linear", LinearShapes},
      {"row panels: a token's bits are its own", TokensAlone},
      {"row panels: experts", Experts},
  };
}

}  // namespace switchyard::cpu
