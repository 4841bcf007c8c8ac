// Products with quantized weights of every storage, against double precision over single elements.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "../../../kernels/cpu/quantized/direct.h"
#include "../../../kernels/cpu/quantized/expand.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing_quantized.h"

namespace switchyard::cpu {
namespace {

std::string Name(const Storage& storage, const QuantizedWeights& weights) {
  const WeightMatrix& m = weights.matrix();
  return std::string(storage.name) + " [" + IsaName() + "] [" + std::to_string(m.rows) + ", " +
         std::to_string(m.cols) + "]";
}

// All rows of a matrix, expanded to a type: the very bits of the specification.
void CheckExpanded(const Storage& storage, const QuantizedWeights& weights, int64_t row0, int64_t row1,
                   DType to) {
  const WeightMatrix& matrix = weights.matrix();
  const int64_t bytes = matrix.cols * DTypeSize(to);
  std::vector<char> panel(static_cast<size_t>((row1 - row0) * bytes), 'x');
  std::vector<char> scratch(static_cast<size_t>(ExpandScratch(matrix, row1 - row0)));
  ExpandRows(Kernels(), matrix, row0, row1, to, panel.data(), bytes, scratch.data());
  for (int64_t n = row0; n < row1; ++n) {
    for (int64_t k = 0; k < matrix.cols; ++k) {
      const float actual = LoadElement(panel.data() + (n - row0) * bytes + k * DTypeSize(to), to);
      const float value = weights.Value(n, k);
      const float expected = to == DType::kBFloat16 ? RoundToBf16(value) : value;
      if (actual == expected) continue;
      Fail("%s: element (%lld, %lld) is %.9g, expected %.9g", Name(storage, weights).c_str(),
           static_cast<long long>(n), static_cast<long long>(k), static_cast<double>(actual),
           static_cast<double>(expected));
      return;
    }
  }
}

void Expansion() {
  Random random(31);
  const int64_t shapes[][2] = {{1, 1}, {3, 5}, {17, 33}, {40, 100}, {9, 300}};
  for (const Storage& storage : AllStorages()) {
    for (const auto& shape : shapes) {
      const QuantizedWeights weights(random, storage, shape[0], shape[1], 1.0f);
      const int64_t rows = weights.matrix().rows;
      const int64_t row0 = storage.order == CodeOrder::kAwq ? 0 : random.Int(0, rows - 1);
      for (const char* isa : Isas()) {
        SelectIsa(isa);
        CheckExpanded(storage, weights, row0, rows, DType::kFloat32);
        CheckExpanded(storage, weights, row0, rows, DType::kBFloat16);
      }
    }
  }
}

// Every code of each kind, in every table.
void EveryCode() {
  std::vector<char> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<char>(i);
  const float scale = 0.75f;
  const float zero = 3.0f;
  float values[16];
  for (int i = 0; i < 16; ++i) values[i] = kE2m1[i];
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (int kind = 0; kind < kCodeKinds; ++kind) {
      const int64_t n = kind == 0 ? 512 : 256;
      std::vector<float> actual(static_cast<size_t>(n));
      std::vector<float> expected(static_cast<size_t>(n));
      const auto run = [&](const KernelTable& table, std::vector<float>& out) {
        table.expand[kind][0](
            {codes.data(), n, n, 0, &scale, &zero, nullptr, values, reinterpret_cast<char*>(out.data())});
      };
      run(Kernels(), actual);
      run(*PortableTable(), expected);
      for (int64_t i = 0; i < n; ++i) {
        const float a = actual[static_cast<size_t>(i)];
        const float e = expected[static_cast<size_t>(i)];
        if (a != e && !(std::isnan(a) && std::isnan(e)))
          Fail("[%s] code %lld of kind %d is %g, expected %g", isa, static_cast<long long>(i), kind,
               static_cast<double>(a), static_cast<double>(e));
      }
    }
  }
}

// A code of a byte for every weight, all under one scale; of both only the addresses are kept.
QuantizedTensor BytesUnderOneScale(const std::vector<unsigned char>& codes, int64_t rows, int64_t cols,
                                   const float& scale) {
  QuantizedTensor q;
  q.rows = rows;
  q.cols = cols;
  q.codes = reinterpret_cast<const std::byte*>(codes.data());
  q.bits = 8;
  q.row_bytes = cols;
  q.scales = reinterpret_cast<const std::byte*>(&scale);
  q.group_rows = rows;
  q.group_cols = cols;
  return q;
}

// Every code of a byte as few tokens meet it.
void EveryByte() {
  Workspace workspace;
  TestPool pool(1);
  constexpr int64_t kRows = 256, kCols = 96;
  std::vector<unsigned char> codes(kRows * kCols, 0);
  for (int64_t i = 0; i < kRows * kCols; ++i)
    codes[static_cast<size_t>(i)] = static_cast<unsigned char>(i / kCols);
  const float scale = 1.0f;
  QuantizedTensor q = BytesUnderOneScale(codes, kRows, kCols, scale);
  WeightMatrix matrix = {.rows = kRows, .cols = kCols};
  matrix.quantized = &q;
  struct Kind {
    CodeType type;
    int32_t zero;
  };
  for (const Kind& kind : {Kind{CodeType::kE4m3, 0}, Kind{CodeType::kInt, 0}, Kind{CodeType::kUint, 128},
                           Kind{CodeType::kUint, 3}}) {
    q.type = kind.type;
    q.zero = kind.zero;
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      for (const Precision precision : kAllPrecisions) {
        // Each token meets another column.
        for (const int64_t tokens : {1, 2, 5}) {
          std::vector<float> x(static_cast<size_t>(tokens * kCols), 0.0f);
          for (int64_t t = 0; t < tokens; ++t) x[static_cast<size_t>(t * kCols + 7 + 17 * t)] = 1.0f;
          Output y(tokens * kRows);
          float* out = y.data();
          Linear({x.data(), tokens, &matrix, nullptr, &out, 1, precision}, workspace, pool);
          for (int64_t i = 0; i < y.size(); ++i) {
            const float value = CodeValue(q, static_cast<uint32_t>(i % kRows));
            const float expected = value - static_cast<float>(kind.zero);
            if (y[i] == expected || (std::isnan(y[i]) && std::isnan(expected))) continue;
            Fail("[%s] code %lld of type %d less %d: %g, expected %g", isa, static_cast<long long>(i % kRows),
                 static_cast<int>(kind.type), kind.zero, static_cast<double>(y[i]),
                 static_cast<double>(expected));
            break;
          }
        }
      }
    }
  }
}

// How weights are rounded that so many tokens meet: where they are few, only activations are.
Precision WeightPrecision(const WeightMatrix& matrix, Precision precision, int64_t tokens) {
  return DirectBlock::IsPossible(Kernels(), matrix, precision, tokens) ? Precision::kFloat32 : precision;
}

void CheckProduct(const Storage& storage, int64_t tokens, int64_t rows, int64_t cols, Precision precision,
                  Random& random, Workspace& workspace) {
  const QuantizedWeights weights(random, storage, rows, cols, 0.1f);
  const WeightMatrix& matrix = weights.matrix();
  const std::vector<float> x = random.Normals(tokens * matrix.cols);
  TestPool pool(static_cast<int>(random.Int(1, 4)));
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Output y(tokens * matrix.rows);
    float* out = y.data();
    Linear({x.data(), tokens, &matrix, nullptr, &out, 1, precision}, workspace, pool);
    y.CheckGuards(Name(storage, weights));
    const Precision weight_precision = WeightPrecision(matrix, precision, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<double> row = Doubles(x.data() + t * matrix.cols, matrix.cols);
      for (int64_t n = 0; n < matrix.rows; ++n) {
        double magnitude = 0.0;
        const double expected = weights.Dot(n, row.data(), precision, weight_precision, &magnitude);
        if (std::fabs(y[t * matrix.rows + n] - expected) <= 1e-6 * magnitude + 1e-7) continue;
        Fail("Linear, %s, %lld tokens: (%lld, %lld) is %g, expected %g", Name(storage, weights).c_str(),
             static_cast<long long>(tokens), static_cast<long long>(t), static_cast<long long>(n),
             static_cast<double>(y[t * matrix.rows + n]), expected);
        return;
      }
    }
  }
}

// Rows of float8 in which a code is NaN give NaN for every token, whatever it meets, and others do not.
void NanCodes() {
  Workspace workspace;
  TestPool pool(1);
  constexpr int64_t kRows = 9, kCols = 77;
  std::vector<unsigned char> codes(kRows * kCols, 0x38);
  codes[2 * kCols + 76] = 0x7f;
  codes[8 * kCols] = 0xff;
  const float scale = 1.0f;
  QuantizedTensor q = BytesUnderOneScale(codes, kRows, kCols, scale);
  q.type = CodeType::kE4m3;
  WeightMatrix matrix = {.rows = kRows, .cols = kCols};
  matrix.quantized = &q;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t tokens : {1, 2, 6, 7}) {
        const std::vector<float> x(static_cast<size_t>(tokens * kCols), 0.0f);
        Output y(tokens * kRows);
        float* out = y.data();
        Linear({x.data(), tokens, &matrix, nullptr, &out, 1, precision}, workspace, pool);
        for (int64_t i = 0; i < y.size(); ++i) {
          const bool has_nan = i % kRows == 2 || i % kRows == 8;
          if (std::isnan(y[i]) != has_nan) {
            Fail("[%s] %lld tokens, row %lld: %g", isa, static_cast<long long>(tokens),
                 static_cast<long long>(i % kRows), static_cast<double>(y[i]));
          }
        }
      }
    }
  }
}

void Products() {
  Random random(32);
  Workspace workspace;
  for (const Storage& storage : AllStorages()) {
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t tokens : {int64_t{1}, random.Int(2, 6), random.Int(7, 30)}) {
        CheckProduct(storage, tokens, random.Int(1, 90), random.Int(1, 200), precision, random, workspace);
      }
    }
  }
}

// Words of many rows side by side meet few tokens: more than a vector of each order, and ends of any size.
void Words() {
  Random random(36);
  Workspace workspace;
  for (const Storage& storage : AllStorages()) {
    if (storage.bits != 4 || (storage.order != CodeOrder::kColumns && storage.order != CodeOrder::kAwq))
      continue;
    for (int64_t tokens = 1; tokens <= kTileTokens; ++tokens) {
      for (const Precision precision : kAllPrecisions)
        CheckProduct(storage, tokens, random.Int(100, 400), 8 * random.Int(1, 60), precision, random,
                     workspace);
    }
  }
}

void Embeddings() {
  Random random(33);
  TestPool pool(2);
  for (const Storage& storage : AllStorages()) {
    if (storage.transposed) continue;
    const QuantizedWeights weights(random, storage, 21, 50, 1.0f);
    const int64_t cols = weights.matrix().cols;
    const int64_t ids[] = {20, 0, 7, 7};
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      Output out(4 * cols);
      const WeightMatrix matrix = weights.matrix();
      EmbeddingRows(&matrix, ids, 4, out.data(), pool);
      out.CheckGuards(storage.name);
      for (int64_t i = 0; i < 4 * cols; ++i) {
        if (out[i] == weights.Value(ids[i / cols], i % cols)) continue;
        Fail("Embedding, %s: value %lld is %g", Name(storage, weights).c_str(), static_cast<long long>(i),
             static_cast<double>(out[i]));
        break;
      }
    }
  }
}

struct QuantizedExpert {
  QuantizedWeights gate, up, down;

  QuantizedExpert(Random& random, const Storage& storage, int64_t hidden, int64_t intermediate)
      : gate(random, storage, intermediate, hidden, Scale(hidden)),
        up(random, storage, intermediate, hidden, Scale(hidden)),
        down(random, storage, hidden, intermediate, Scale(intermediate)) {}

  static float Scale(int64_t depth) { return 1.0f / std::sqrt(static_cast<float>(depth)); }

  // As one of `tokens` tokens that the expert meets together.
  std::vector<double> Output(const double* x, Precision precision, int64_t tokens) const {
    const auto seen = [&](const QuantizedWeights& weights) {
      return WeightPrecision(weights.matrix(), precision, tokens);
    };
    std::vector<double> h(static_cast<size_t>(gate.matrix().rows));
    for (size_t i = 0; i < h.size(); ++i) {
      const double g = gate.Dot(static_cast<int64_t>(i), x, precision, seen(gate), nullptr);
      h[i] = g / (1.0 + std::exp(-g)) * up.Dot(static_cast<int64_t>(i), x, precision, seen(up), nullptr);
    }
    std::vector<double> y(static_cast<size_t>(down.matrix().rows));
    for (size_t n = 0; n < y.size(); ++n)
      y[n] = down.Dot(static_cast<int64_t>(n), h.data(), precision, seen(down), nullptr);
    return y;
  }
};

// Choices of experts, two for every token, and what comes of each.
struct Choices {
  std::vector<int32_t> experts;
  std::vector<float> weights;
  // [0] the outputs of experts that meet few tokens, [1] of those that meet many.
  std::vector<std::vector<double>> outputs[2];

  std::vector<double> Sum(ExpertsImplementation implementation, int64_t hidden) const {
    std::vector<double> y(experts.size() / 2 * static_cast<size_t>(hidden));
    for (size_t p = 0; p < experts.size(); ++p) {
      const bool is_alone = implementation == ExpertsImplementation::kBatchedMm;
      const auto met = is_alone ? 1 : std::count(experts.begin(), experts.end(), experts[p]);
      const std::vector<double>& output = outputs[met <= kTileTokens ? 0 : 1][p];
      for (size_t i = 0; i < output.size(); ++i)
        y[p / 2 * static_cast<size_t>(hidden) + i] += static_cast<double>(weights[p]) * output[i];
    }
    return y;
  }
};

// All implementations against each expert's own sum. Sizes are multiples of 16, which every storage has.
void CheckExperts(const Storage& storage, int64_t tokens, Precision precision, Random& random,
                  Workspace& workspace) {
  const int64_t experts = 4;
  const int64_t hidden = 16 * random.Int(1, 6);
  const int64_t intermediate = 16 * random.Int(1, 5);
  const int top_k = 2;
  std::vector<std::unique_ptr<QuantizedExpert>> all;
  std::vector<ExpertWeights> weights;
  for (int64_t e = 0; e < experts; ++e) {
    all.push_back(std::make_unique<QuantizedExpert>(random, storage, hidden, intermediate));
    weights.push_back({all.back()->gate.matrix(), all.back()->up.matrix(), all.back()->down.matrix()});
  }
  const std::vector<float> x = random.Normals(tokens * hidden);
  Choices choices;
  choices.weights = random.Normals(tokens * top_k);
  for (int64_t p = 0; p < tokens * top_k; ++p)
    choices.experts.push_back(static_cast<int32_t>(random.Int(0, experts - 1)));
  TestPool pool(static_cast<int>(random.Int(1, 4)));
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int many : {0, 1}) {
      choices.outputs[many].clear();
      for (size_t p = 0; p < choices.experts.size(); ++p) {
        const std::vector<double> row = Doubles(x.data() + static_cast<int64_t>(p) / top_k * hidden, hidden);
        choices.outputs[many].push_back(all[static_cast<size_t>(choices.experts[p])]->Output(
            row.data(), precision, many == 0 ? 1 : kTileTokens + 1));
      }
    }
    for (const ExpertsImplementation implementation : kAllImplementations) {
      const std::vector<double> expected = choices.Sum(implementation, hidden);
      double square = 0.0;
      for (const double value : expected) square += value * value;
      const double size = std::sqrt(square / static_cast<double>(expected.size()));
      const double tolerance = (precision == Precision::kBFloat16 ? 8e-3 : 1e-5) * size + 1e-7;
      Output y(tokens * hidden);
      MoeExperts({x.data(), tokens, weights.data(), experts, hidden, intermediate, choices.experts.data(),
                  choices.weights.data(), top_k, implementation, y.data(), precision},
                 workspace, pool);
      y.CheckGuards(storage.name);
      for (int64_t i = 0; i < y.size(); ++i) {
        if (std::fabs(y[i] - expected[static_cast<size_t>(i)]) <= tolerance) continue;
        Fail("MoeExperts, %s [%s], implementation %d, %lld tokens: value %lld is %g, expected %g",
             storage.name, isa, static_cast<int>(implementation), static_cast<long long>(tokens),
             static_cast<long long>(i), static_cast<double>(y[i]), expected[static_cast<size_t>(i)]);
        break;
      }
    }
  }
}

void Experts() {
  Random random(34);
  Workspace workspace;
  for (const Storage& storage : AllStorages()) {
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t tokens : {int64_t{1}, random.Int(2, 40)})
        CheckExperts(storage, tokens, precision, random, workspace);
    }
  }
}

}  // namespace

std::vector<Group> QuantizedGroups() {
  return {
      {"quantized: every code of every kind", EveryCode},
      {"quantized: rows of every storage, bit by bit", Expansion},
      {"quantized: products with every storage", Products},
      {"quantized: products of words that lie side by side", Words},
      {"quantized: every byte as few tokens meet it", EveryByte},
      {"quantized: codes of NaN", NanCodes},
      {"quantized: embeddings of every storage", Embeddings},
      {"quantized: experts of every storage", Experts},
  };
}

}  // namespace switchyard::cpu
