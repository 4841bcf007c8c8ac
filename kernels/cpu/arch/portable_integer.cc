// The specification of the kernels for integer products, in plain C++. Other tables must agree with this one
// up to the order of fp32 additions; their codes of activations are the same.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../../common/float_types.h"
#include "integer_kernels.h"

namespace switchyard::cpu {
namespace {

// Where the code of depth k lies.
int64_t Place(int64_t k, IntegerOrder order) {
  const int64_t chunk = k / kIntegerChunk * kIntegerChunk;
  const int64_t i = k % kIntegerChunk;
  return chunk + (order == IntegerOrder::kNatural ? i : i % 2 * (kIntegerChunk / 2) + i / 2);
}

void Round(const float* x, int64_t n, int64_t depth, IntegerOrder order, int32_t offset,
           const IntegerRow& out) {
  for (int64_t first = 0; first < n; first += kIntegerBlock) {
    const int64_t count = std::min(kIntegerBlock, n - first);
    const float* values = x + first;
    float most = 0.0f;
    float poison = 0.0f;  // NaN where any value is no finite number
    for (int64_t i = 0; i < count; ++i) {
      most = std::max(most, std::fabs(values[i]));
      poison += values[i] * 0.0f;
    }
    const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
    const float scale = most * (1.0f / 127.0f) + poison;
    int32_t sum = 0;
    for (int64_t i = 0; i < kIntegerBlock; ++i) {
      const float scaled = i < count && std::isfinite(values[i]) ? values[i] * inverse : 0.0f;
      const auto code = static_cast<int32_t>(std::nearbyint(scaled));
      out.codes[Place(depth + first + i, order)] = static_cast<int8_t>(code);
      sum += code;
    }
    const int64_t block = (depth + first) / kIntegerBlock;
    out.scales[block] = scale;
    out.starts[block] = -offset * sum;
    out.sums[block] = scale * static_cast<float>(sum);
  }
}

uint32_t WordAt(const char* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

// Sum over the four codes of a word.
int32_t DotWord(uint32_t word, const int8_t* x) {
  int32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<int32_t>(word >> (8 * i) & 0xffu) * x[i];
  return sum;
}

// code_word(b, j, r): word j of block b of row r, four unsigned codes.
template <typename CodeWord>
void Tile(const IntegerTileArgs& args, IntegerOrder order, const CodeWord& code_word) {
  const int64_t blocks = (args.depth + kIntegerBlock - 1) / kIntegerBlock;
  for (int t = 0; t < args.tokens; ++t) {
    const IntegerRow x = IntegerRow::At(const_cast<char*>(args.x) + t * args.x_stride, args.depth);
    for (int64_t r = 0; r < args.rows; ++r) {
      float total = 0.0f;
      for (int64_t b = 0; b < blocks; ++b) {
        int32_t sum = x.starts[b];
        for (int64_t j = 0; j < kIntegerWords; ++j) {
          const bool is_split = order == IntegerOrder::kSplit;
          const int64_t half = kIntegerWords / 2;
          const int64_t k = b * kIntegerBlock + (is_split ? j % half * 8 + j / half : j * 4);
          sum += DotWord(code_word(b, j, r), x.codes + Place(k, order));
        }
        const int64_t at = b / args.blocks_per_group * args.scale_stride + r;
        total += x.scales[b] * (args.scales[at] * static_cast<float>(sum));
        if (args.offsets != nullptr) total += x.sums[b] * args.offsets[at];
      }
      args.c[t * args.c_stride + r] = total;
    }
  }
}

template <IntegerOrder kOrder>
void Panel(const IntegerTileArgs& args) {
  Tile(args, kOrder, [&](int64_t b, int64_t j, int64_t r) {
    return WordAt(args.w + ((b * kIntegerWords + j) * kIntegerPanelRows + r) * 4);
  });
}

void Columns(const IntegerTileArgs& args) {
  const int64_t half = kIntegerWords / 2;
  Tile(args, IntegerOrder::kSplit, [&](int64_t b, int64_t j, int64_t r) {
    const int64_t word = b * half + j % half;
    if (word * 8 >= args.depth) return 0u;
    return WordAt(args.w + word * args.w_stride + r * 4) >> (j / half * 4) & 0x0f0f0f0fu;
  });
}

float ScaleAt(const IntegerRowsArgs& args, int64_t at) {
  if (args.scales != nullptr) return args.scales[at];
  if (args.bf16_scales == nullptr) return 1.0f;
  uint16_t bits;
  std::memcpy(&bits, args.bf16_scales + at * 2, sizeof(bits));
  return Bf16ToFloat(bits);
}

// code(row, k) is the unsigned code at a depth.
template <typename Code>
void Rows(const IntegerRowsArgs& args, IntegerOrder order, const Code& code) {
  const IntegerRow x = IntegerRow::At(const_cast<char*>(args.x), args.depth);
  for (int64_t r = 0; r < args.rows; ++r) {
    const auto* row = reinterpret_cast<const uint8_t*>(args.w) + r * args.w_stride;
    float total = 0.0f;
    for (int64_t first = 0; first < args.depth; first += kIntegerBlock) {
      const int64_t block = first / kIntegerBlock;
      int32_t sum = x.starts[block];
      for (int64_t k = first; k < std::min(first + kIntegerBlock, args.depth); ++k)
        sum += code(row, k) * x.codes[Place(k, order)];
      const int64_t at = r * args.scale_stride + block;
      const float scale = ScaleAt(args, at);
      total += x.scales[block] * (scale * static_cast<float>(sum));
      if (args.offsets != nullptr) total += x.sums[block] * args.offsets[at];
    }
    args.c[r] = total;
  }
}

void Nibbles(const IntegerRowsArgs& args) {
  Rows(args, IntegerOrder::kSplit, [&](const uint8_t* row, int64_t k) {
    const int32_t code = row[k / 2] >> (k % 2 * 4) & 15;
    return args.values == nullptr ? code : static_cast<int32_t>(args.values[code]);
  });
}

void Bytes(const IntegerRowsArgs& args) {
  Rows(args, IntegerOrder::kNatural,
       [&](const uint8_t* row, int64_t k) { return static_cast<int32_t>(row[k] ^ args.flip); });
}

void Unpack(const char* words, int64_t stride, int64_t count, const uint8_t* values, char* panel) {
  const int64_t half = kIntegerWords / 2;
  for (int64_t w = 0; w < count; ++w) {
    for (int64_t r = 0; r < kIntegerPanelRows; ++r) {
      const uint32_t word = WordAt(words + w * stride + r * 4);
      for (int64_t i = 0; i < 2; ++i) {
        uint32_t codes = word >> (4 * i) & 0x0f0f0f0fu;
        if (values != nullptr) {
          uint32_t looked_up = 0;
          for (int byte = 0; byte < 4; ++byte)
            looked_up |= static_cast<uint32_t>(values[codes >> (8 * byte) & 15u]) << (8 * byte);
          codes = looked_up;
        }
        const int64_t place = w / half * kIntegerWords + i * half + w % half;
        std::memcpy(panel + (place * kIntegerPanelRows + r) * 4, &codes, sizeof(codes));
      }
    }
  }
}

constexpr IntegerKernels kKernels = {
    false, Round, {Panel<IntegerOrder::kNatural>, Panel<IntegerOrder::kSplit>}, Columns, Nibbles,
    Bytes, Unpack};

}  // namespace

const IntegerKernels* PortableInteger() { return &kKernels; }

}  // namespace switchyard::cpu
