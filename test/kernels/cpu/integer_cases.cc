// Products of integer codes with activations rounded to int8 in blocks, against double precision with
// activations that the test rounds itself.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "../../../kernels/cpu/quantized/integer.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing_quantized.h"

namespace switchyard::cpu {
namespace {

constexpr Precision kInt8 = Precision::kFloat32Int8;

std::vector<Storage> IntegerStorages() {
  using enum CodeOrder;
  using T = CodeType;
  using S = ScaleType;
  std::vector<Storage> storages = AllStorages();
  const int rows = static_cast<int>(ZeroOrder::kRows);
  storages.push_back(
      {"int4 in groups of 64, zero points", T::kUint, 4, kRows, 1, 64, S::kFloat16, false, rows});
  storages.push_back({"int4 by row", T::kUint, 4, kRows, 1, 1 << 20, S::kFloat32});
  storages.push_back({"int8 in blocks", T::kInt, 8, kRows, 24, 64, S::kBFloat16});
  storages.push_back({"gptq int4 by row", T::kUint, 4, kColumns, 1, 1 << 20, S::kFloat16, true});
  return storages;
}

std::vector<float> Rounded(const std::vector<float>& x, int64_t depth) {
  std::vector<float> out(x.size());
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(depth)) {
    for (int64_t first = 0; first < depth; first += 32) {
      const int64_t end = std::min<int64_t>(first + 32, depth);
      float most = 0.0f;
      for (int64_t k = first; k < end; ++k) most = std::max(most, std::fabs(x[row + static_cast<size_t>(k)]));
      for (int64_t k = first; k < end; ++k) {
        const size_t i = row + static_cast<size_t>(k);
        out[i] = most == 0.0f ? 0.0f : std::nearbyint(x[i] * (127.0f / most)) * (most / 127.0f);
      }
    }
  }
  return out;
}

bool IsInteger(const WeightMatrix& matrix) { return IntegerForm::Of(Kernels(), matrix, kInt8).possible; }

void CheckIntegerProduct(const Storage& storage, int64_t tokens, int64_t rows, int64_t cols, Random& random,
                         Workspace& workspace) {
  const QuantizedWeights weights(random, storage, rows, cols, 0.1f);
  const WeightMatrix& matrix = weights.matrix();
  const std::vector<float> x = random.Normals(tokens * matrix.cols);
  const std::vector<float> rounded = Rounded(x, matrix.cols);
  TestPool pool(static_cast<int>(random.Int(1, 4)));
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Output y(tokens * matrix.rows);
    float* out = y.data();
    Linear({x.data(), tokens, &matrix, nullptr, &out, 1, kInt8}, workspace, pool);
    y.CheckGuards(storage.name);
    const float* seen = IsInteger(matrix) ? rounded.data() : x.data();
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<double> row = Doubles(seen + t * matrix.cols, matrix.cols);
      for (int64_t n = 0; n < matrix.rows; ++n) {
        double magnitude = 0.0;
        const double expected = weights.Dot(n, row.data(), Precision::kFloat32, &magnitude);
        // Codes of 8 bits without their zero point are up to 256 times larger than with it.
        if (std::fabs(y[t * matrix.rows + n] - expected) <= 3e-6 * magnitude + 1e-6) continue;
        Fail("Linear in int8, %s [%s], [%lld, %lld], %lld tokens: (%lld, %lld) is %g, expected %g",
             storage.name, isa, static_cast<long long>(matrix.rows), static_cast<long long>(matrix.cols),
             static_cast<long long>(tokens), static_cast<long long>(t), static_cast<long long>(n),
             static_cast<double>(y[t * matrix.rows + n]), expected);
        return;
      }
    }
  }
}

void IntegerProducts() {
  Random random(41);
  Workspace workspace;
  for (const Storage& storage : IntegerStorages()) {
    for (const int64_t tokens : {int64_t{1}, random.Int(2, 6), random.Int(7, 30)}) {
      CheckIntegerProduct(storage, tokens, random.Int(1, 90), random.Int(1, 300), random, workspace);
      CheckIntegerProduct(storage, tokens, random.Int(100, 300), 32 * random.Int(1, 10), random, workspace);
    }
  }
}

// Sums are exact where all products are as large as they can be, of either sign: nothing saturates.
void LargestProducts() {
  Workspace workspace;
  TestPool pool(1);
  struct Kind {
    CodeType type;
    int bits;
    unsigned char byte;
    double value;
  };
  const Kind kinds[] = {{CodeType::kInt, 8, 0x80, -128.0}, {CodeType::kInt, 8, 0x7f, 127.0},
                        {CodeType::kUint, 8, 0xff, 255.0}, {CodeType::kUint, 8, 0x00, 0.0},
                        {CodeType::kUint, 4, 0xff, 15.0},  {CodeType::kE2m1, 4, 0x77, 6.0},
                        {CodeType::kE2m1, 4, 0xff, -6.0}};
  constexpr int64_t kRows = 33, kCols = 256;
  for (const Kind& kind : kinds) {
    const std::vector<unsigned char> codes(kRows * kCols, kind.byte);
    const float scale = 1.0f;
    QuantizedTensor q;
    q.rows = kRows;
    q.cols = kCols;
    q.codes = reinterpret_cast<const std::byte*>(codes.data());
    q.type = kind.type;
    q.bits = kind.bits;
    q.row_bytes = kCols * kind.bits / 8;
    q.scales = reinterpret_cast<const std::byte*>(&scale);
    q.group_rows = kRows;
    q.group_cols = kCols;
    WeightMatrix matrix = {.rows = kRows, .cols = kCols};
    matrix.quantized = &q;
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      for (const int64_t tokens : {1, 6}) {
        for (const float x : {127.0f, -127.0f}) {
          const std::vector<float> values(static_cast<size_t>(tokens * kCols), x);
          Output y(tokens * kRows);
          float* out = y.data();
          Linear({values.data(), tokens, &matrix, nullptr, &out, 1, kInt8}, workspace, pool);
          const double expected = kind.value * static_cast<double>(x) * kCols;
          for (int64_t i = 0; i < y.size(); ++i) {
            if (std::fabs(y[i] - expected) <= 1e-5 * std::fabs(expected)) continue;
            Fail("[%s] %d bits, %g times %g: %g, expected %g", isa, kind.bits, kind.value,
                 static_cast<double>(x), static_cast<double>(y[i]), expected);
            break;
          }
        }
      }
    }
  }
}

// All implementations of experts give what GatedMlp gives for each token and expert alone.
void IntegerExperts() {
  Random random(42);
  Workspace workspace;
  TestPool pool(3);
  for (const Storage& storage : IntegerStorages()) {
    const int64_t hidden = 16 * random.Int(3, 12);
    const int64_t intermediate = 16 * random.Int(2, 9);
    const int64_t tokens = random.Int(1, 24);
    std::vector<std::unique_ptr<QuantizedWeights>> matrices;
    std::vector<ExpertWeights> experts;
    const auto add = [&](int64_t rows, int64_t cols) {
      matrices.push_back(std::make_unique<QuantizedWeights>(random, storage, rows, cols, 0.1f));
      return matrices.back()->matrix();
    };
    for (int e = 0; e < 3; ++e) {
      const WeightMatrix gate = add(intermediate, hidden);
      const WeightMatrix up = add(intermediate, hidden);
      experts.push_back({gate, up, add(hidden, intermediate)});
    }
    const std::vector<float> x = random.Normals(tokens * hidden);
    const std::vector<float> mix(static_cast<size_t>(tokens * 2), 0.5f);
    std::vector<int32_t> indices;
    for (int64_t p = 0; p < tokens * 2; ++p) indices.push_back(static_cast<int32_t>((p * 2 + p / 2) % 3));
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      std::vector<double> expected(static_cast<size_t>(tokens * hidden));
      for (int64_t p = 0; p < tokens * 2; ++p) {
        const ExpertWeights& expert = experts[static_cast<size_t>(indices[static_cast<size_t>(p)])];
        Output y(hidden);
        GatedMlp({x.data() + p / 2 * hidden, 1, expert.gate, expert.up, expert.down, {}, y.data(), kInt8},
                 workspace, pool);
        for (int64_t i = 0; i < hidden; ++i) expected[static_cast<size_t>(p / 2 * hidden + i)] += 0.5 * y[i];
      }
      double square = 0.0;
      for (const double value : expected) square += value * value;
      const double rms = std::sqrt(square / static_cast<double>(expected.size()));
      for (const ExpertsImplementation implementation : kAllImplementations) {
        Output y(tokens * hidden);
        MoeExperts({x.data(), tokens, experts.data(), 3, hidden, intermediate, indices.data(), mix.data(), 2,
                    implementation, y.data(), kInt8},
                   workspace, pool);
        y.CheckGuards(storage.name);
        for (int64_t i = 0; i < y.size(); ++i) {
          // A sum in another order may round an activation of `down` the other way.
          if (std::fabs(y[i] - expected[static_cast<size_t>(i)]) <= 0.02 * rms + 1e-6) continue;
          Fail("MoeExperts in int8, %s [%s], implementation %d: value %lld is %g, expected %g", storage.name,
               isa, static_cast<int>(implementation), static_cast<long long>(i), static_cast<double>(y[i]),
               expected[static_cast<size_t>(i)]);
          break;
        }
      }
    }
  }
}

// The same codes of activations in every table, and NaN where an activation is no finite number.
void RoundedActivations() {
  Random random(43);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int64_t depth : {1, 31, 32, 33, 100, 128, 300}) {
      for (const IntegerOrder order : {IntegerOrder::kNatural, IntegerOrder::kSplit}) {
        std::vector<float> x = random.Normals(depth);
        if (depth == 100) std::fill_n(x.begin() + 32, 32, 0.0f);
        std::vector<char> actual(static_cast<size_t>(IntegerRow::Bytes(depth))), expected(actual.size());
        const IntegerRow a = IntegerRow::At(actual.data(), depth);
        const IntegerRow e = IntegerRow::At(expected.data(), depth);
        Kernels().integer->round(x.data(), depth, 0, order, 8, a);
        PortableInteger()->round(x.data(), depth, 0, order, 8, e);
        for (int64_t i = 0; i < IntegerRow::Chunks(depth) * kIntegerChunk; ++i) {
          if (a.codes[i] != e.codes[i])
            Fail("[%s] code %lld of %lld", isa, static_cast<long long>(i), static_cast<long long>(depth));
        }
        for (int64_t b = 0; b < (depth + 31) / 32; ++b) {
          if (a.scales[b] != e.scales[b] || a.starts[b] != e.starts[b] || a.sums[b] != e.sums[b])
            Fail("[%s] block %lld of %lld", isa, static_cast<long long>(b), static_cast<long long>(depth));
        }
        x[static_cast<size_t>(depth / 2)] = depth % 2 == 0 ? INFINITY : NAN;
        Kernels().integer->round(x.data(), depth, 0, order, 8, a);
        if (!std::isnan(a.scales[depth / 2 / 32])) Fail("[%s] NaN or infinity is lost", isa);
      }
    }
  }
}

}  // namespace

std::vector<Group> IntegerGroups() {
  return {
      {"integer codes: rounded activations", RoundedActivations},
      {"integer codes: products with every storage", IntegerProducts},
      {"integer codes: the largest products", LargestProducts},
      {"integer codes: experts of every storage", IntegerExperts},
  };
}

}  // namespace switchyard::cpu
