// The specification of every micro-kernel, in plain C++ for any processor. Other tables must agree with this
// one up to the order of fp32 additions.
#include <algorithm>
#include <cmath>

#include "../../common/quantized_elements.h"
#include "isa.h"

namespace switchyard::cpu {
namespace {

// Independent sums per dot product: short chains, and something for the compiler to vectorise.
constexpr int kBlock = 8;

template <DType kType>
float Element(const char* row, int64_t i) {
  return LoadElement(row + i * DTypeSize(kType), kType);
}

template <bool kRound>
void Pack(const float* x, int64_t n, int64_t group, void* out) {
  float* slot = static_cast<float*>(out);
  for (int64_t k = 0; k < n; k += kBlock, slot += group * kBlock) {
    for (int64_t i = 0; i < kBlock; ++i) {
      const float value = k + i < n ? x[k + i] : 0.0f;
      slot[i] = kRound ? RoundToBf16(value) : value;
    }
  }
}

// Multiplies one weight row with every token of the group.
template <DType kType, int kTokens>
void TileRow(const TileArgs& args, const char* w, float* c) {
  float sum[kTokens][kBlock] = {};
  const float* x = static_cast<const float*>(args.x);
  for (int64_t k = 0; k < args.depth; k += kBlock, x += kTokens * kBlock) {
    float row[kBlock] = {};
    const int64_t n = std::min<int64_t>(kBlock, args.depth - k);
    if (n == kBlock) {
      for (int i = 0; i < kBlock; ++i) row[i] = Element<kType>(w, k + i);
    } else {
      for (int64_t i = 0; i < n; ++i) row[i] = Element<kType>(w, k + i);
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kBlock; ++i) sum[t][i] += row[i] * x[t * kBlock + i];
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float total = 0.0f;
    for (int i = 0; i < kBlock; ++i) total += sum[t][i];
    c[t * args.c_stride] = total;
  }
}

template <DType kType, int kTokens>
void TileRows(const TileArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r)
    TileRow<kType, kTokens>(args, args.w + r * args.w_stride, args.c + r);
}

template <DType kType>
void Tile(const TileArgs& args) {
  static_assert(kTileTokens == 6);
  static constexpr TileFn kBySize[] = {TileRows<kType, 1>, TileRows<kType, 2>, TileRows<kType, 3>,
                                       TileRows<kType, 4>, TileRows<kType, 5>, TileRows<kType, 6>};
  kBySize[args.tokens - 1](args);
}

template <DType kType>
void Axpy(const AxpyArgs& args) {
  for (int t = 0; t < args.tokens && !args.accumulate; ++t) {
    std::fill_n(args.y + t * args.y_stride, args.columns, 0.0f);
  }
  for (int64_t k = 0; k < args.depth; ++k) {
    const char* row = args.w + k * args.w_stride;
    for (int t = 0; t < args.tokens; ++t) {
      const float x = args.x[t * args.x_stride + k];
      float* y = args.y + t * args.y_stride;
      for (int64_t n = 0; n < args.columns; ++n) y[n] += x * Element<kType>(row, n);
    }
  }
}

template <int kBytes>
void Transpose(const char* src, int64_t src_stride, int64_t rows, int64_t columns, char* dst,
               int64_t dst_stride) {
  constexpr int64_t kStep = 16;  // both sides of a 16 x 16 patch stay in the cache
  for (int64_t r0 = 0; r0 < rows; r0 += kStep) {
    const int64_t r1 = std::min(rows, r0 + kStep);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = r0; r < r1; ++r) {
        std::memcpy(dst + c * dst_stride + r * kBytes, src + r * src_stride + c * kBytes, kBytes);
      }
    }
  }
}

template <DType kType>
void Widen(const char* src, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = Element<kType>(src, i);
}

template <DType kType>
void Narrow(const float* src, int64_t n, char* dst) {
  if constexpr (kType == DType::kFloat32) {
    std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t bits = kType == DType::kBFloat16 ? FloatToBf16(src[i]) : FloatToFp16(src[i]);
      std::memcpy(dst + i * 2, &bits, sizeof(bits));
    }
  }
}

void RoundBf16(const float* x, int64_t n, float* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = RoundToBf16(x[i]);
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

float ExpSum(const float* x, float scale, float shift, int64_t n, float* out) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = std::exp(scale * x[i] - shift);
    sum += out[i];
  }
  return sum;
}

float Max(const float* x, int64_t n) { return *std::max_element(x, x + n); }

void ScaleAdd(const float* x, float scale, int64_t n, float* y, bool accumulate) {
  if (accumulate) {
    for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = scale * x[i];
  }
}

void NormRotate(const float* x, const float* norm, float epsilon, const float* cos, const float* sin,
                int64_t pairs, int64_t n, float* out) {
  float scale = 1.0f;
  if (norm != nullptr) {
    float squares = 0.0f;
    for (int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
    scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + epsilon);
  }
  const auto value = [&](int64_t i) { return norm == nullptr ? x[i] : x[i] * scale * norm[i]; };
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = value(i);
    const float b = value(pairs + i);
    out[i] = a * cos[i] - b * sin[i];
    out[pairs + i] = b * cos[i] + a * sin[i];
  }
  for (int64_t i = 2 * pairs; i < n; ++i) out[i] = value(i);
}

void ConvSilu(const ConvArgs& args) {
  for (int64_t i = 0; i < args.channels; ++i) {
    float sum = 0.0f;
    for (int64_t tap = 0; tap < args.taps; ++tap) sum += args.x[tap][i] * args.w[tap * args.w_stride + i];
    args.out[i] = sum / (1.0f + std::exp(-sum));
  }
}

void DeltaSteps(const DeltaArgs& args) {
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float* q = args.q + t * args.stride;
    const float* k = args.k + t * args.stride;
    for (int64_t n = 0; n < args.value_dim; ++n) {
      float sum = 0.0f;
      for (int64_t i = 0; i < args.key_dim; ++i) sum += args.state[i * args.value_dim + n] * k[i];
      const float delta = (args.v[t * args.stride + n] - args.decay[t] * sum) * args.beta[t];
      float out = 0.0f;
      for (int64_t i = 0; i < args.key_dim; ++i) {
        float& state = args.state[i * args.value_dim + n];
        state = args.decay[t] * state + k[i] * delta;
        out += state * q[i];
      }
      args.out[t * args.out_stride + n] = out;
    }
  }
}

void Panel(const PanelArgs& args) {
  for (int t = 0; t < args.tokens; ++t) {
    float* c = args.c + t * args.c_stride;
    if (!args.accumulate) std::fill_n(c, args.columns, 0.0f);
    for (int64_t k = 0; k < args.words; ++k) {
      const float x = Element<DType::kFloat32>(args.x + t * args.x_stride, k);
      const char* w = args.w + k * args.w_stride;
      for (int64_t n = 0; n < args.columns; ++n) c[n] += x * Element<DType::kFloat32>(w, n);
    }
  }
}

template <bool kRound>
void Convert(const float* x, int64_t n, void* out) {
  float* words = static_cast<float*>(out);
  for (int64_t i = 0; i < n; ++i) words[i] = kRound ? RoundToBf16(x[i]) : x[i];
}

template <CodeKind kKind>
float ValueAt(const ExpandArgs& args, int64_t i) {
  const auto* codes = reinterpret_cast<const uint8_t*>(args.codes);
  switch (kKind) {
    case CodeKind::kNibbles:
      return args.values[(codes[i / 2] >> (i % 2 == 0 ? 0 : 4)) & 15];
    case CodeKind::kBytes:
      return static_cast<float>(codes[i]);
    case CodeKind::kSignedBytes:
      return static_cast<float>(static_cast<int8_t>(codes[i]));
    case CodeKind::kE4m3:
      return E4m3ToFloat(codes[i]);
  }
  return 0.0f;
}

template <CodeKind kKind, DType kOut>
void Expand(const ExpandArgs& args) {
  int64_t group = 0;
  int64_t left = args.group - args.phase;
  for (int64_t i = 0; i < args.n; ++i, --left) {
    if (left == 0) ++group, left = args.group;
    float value = (ValueAt<kKind>(args, i) - args.zeros[group]) * args.scales[group];
    if (args.biases != nullptr) value += args.biases[group];
    Narrow<kOut>(&value, 1, args.out + i * DTypeSize(kOut));
  }
}

template <DType kType>
constexpr Operand Plain() {
  return {Pack<false>, Tile<kType>, 4};
}

constexpr KernelTable kTable = {
    "portable",
    kBlock,
    1,
    {{Plain<DType::kBFloat16>(), {Pack<true>, Tile<DType::kBFloat16>, 4}},
     {Plain<DType::kFloat16>(), Plain<DType::kFloat16>()},
     {Plain<DType::kFloat32>(), Plain<DType::kFloat32>()}},
    {Axpy<DType::kBFloat16>, Axpy<DType::kFloat16>, Axpy<DType::kFloat32>},
    Transpose<2>,
    Transpose<4>,
    {Widen<DType::kBFloat16>, Widen<DType::kFloat16>, Widen<DType::kFloat32>},
    {Narrow<DType::kBFloat16>, Narrow<DType::kFloat16>, Narrow<DType::kFloat32>},
    RoundBf16,
    SiluMul,
    ExpSum,
    Max,
    ScaleAdd,
    NormRotate,
    ConvSilu,
    DeltaSteps,
    {{1, Convert<false>, Panel}, {1, Convert<true>, Panel}},
    {{Expand<CodeKind::kNibbles, DType::kFloat32>, Expand<CodeKind::kNibbles, DType::kBFloat16>},
     {Expand<CodeKind::kBytes, DType::kFloat32>, Expand<CodeKind::kBytes, DType::kBFloat16>},
     {Expand<CodeKind::kSignedBytes, DType::kFloat32>, Expand<CodeKind::kSignedBytes, DType::kBFloat16>},
     {Expand<CodeKind::kE4m3, DType::kFloat32>, Expand<CodeKind::kE4m3, DType::kBFloat16>}},
};

}  // namespace

const KernelTable* PortableTable() { return &kTable; }

}  // namespace switchyard::cpu
