// Products of 16 rows of codes with one to four rows of activations, by one warp on tensor cores.
//
// The values of codes, zero points aside, are exact in bf16 and fp16, so they are the left operand of a
// product m16n8k16 as they are, and scales are applied to its fp32 results. Lanes of one product hold k's of
// different groups: a lane's own 16 k's therefore meet activations in one of the eight columns of the right
// operand only, and zeros in the others, so that every column sums one unit of 16 k's that share a scale.
//
// A step is 128 k's: eight units, eight products. Lane (g, t), g = lane / 4, t = lane % 4, brings 16 bytes at
// a time of rows g and g + 8 to its own place in shared memory, asynchronously and several steps ahead, and
// is the only one to read them.
#pragma once
#include "coded_rows.cuh"

namespace switchyard::cuda {

constexpr int kCodedRows = 16;    // weight rows of a warp
constexpr int kCodedStep = 128;   // k's
constexpr int kCodedUnit = 16;    // k's
constexpr int kCodedWidth = 32;   // k is a multiple of this: pieces of 16 bytes hold as many codes at most
constexpr int kRingBytes = 4096;  // of a warp, for codes on their way
constexpr int kPieceBytes = kWarpSize * 16;

SWITCHYARD_HOST_DEVICE constexpr int CodedSteps(int k) { return (k + kCodedStep - 1) / kCodedStep; }

// Activations in shared memory, padded with zeros to whole steps. Of eight neighbours i and i + 4 lie side by
// side, as codes do once unpacked.
struct StagedInputs {
  static constexpr int kZeroBytes = 32;

  // Shared memory of `rows` rows.
  SWITCHYARD_HOST_DEVICE static constexpr size_t Bytes(int rows, int k) {
    const size_t padded = static_cast<size_t>(CodedSteps(k)) * kCodedStep;
    return kZeroBytes + rows * (padded * 2 + padded / kCodedUnit * sizeof(float));
  }

  __device__ StagedInputs(unsigned char* shared, int rows, int k)
      : padded(CodedSteps(k) * kCodedStep),
        zeros(shared),
        elements(shared + kZeroBytes),
        sums(reinterpret_cast<float*>(elements + rows * padded * 2)) {}

  // Fills rows [0, rows) from x [rows, k], rows that follow `present` with zeros. The whole block calls it,
  // and waits before anyone reads.
  template <typename T>
  __device__ void Fill(const T* x, int rows, int present, int k) const {
    if (threadIdx.x < kZeroBytes / 4) reinterpret_cast<uint32_t*>(zeros)[threadIdx.x] = 0;
    const int units = padded / kCodedUnit;
    for (int i = threadIdx.x; i < rows * units; i += blockDim.x) {
      const int row = i / units;
      const int at = i % units * kCodedUnit;
      const bool inside = row < present && at < k;
      const T* from = x + (inside ? int64_t{1} * row * k + at : 0);
      float sum = 0.0f;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        union {
          Pack<T, 8> pack;
          uint32_t words[4];
        } in = {KeepIf<T, 8>(inside, LoadPack<T, 8>(from + half * 8))};
#pragma unroll
        for (int j = 0; j < 8; ++j) sum += ToFloat(in.pack.values[j]);
        const uint4 out = {
            __byte_perm(in.words[0], in.words[2], 0x5410), __byte_perm(in.words[0], in.words[2], 0x7632),
            __byte_perm(in.words[1], in.words[3], 0x5410), __byte_perm(in.words[1], in.words[3], 0x7632)};
        *reinterpret_cast<uint4*>(elements + (row * padded + at + half * 8) * 2) = out;
      }
      sums[i] = sum;
    }
  }

  int padded;
  unsigned char* zeros;
  unsigned char* elements;  // [rows, padded]
  float* sums;              // [rows, padded / kCodedUnit]
};

// Two codes as elements of T: what their kind is made of.
template <typename T>
struct CodeConstants;
template <>
struct CodeConstants<__nv_bfloat16> {
  static constexpr bool kWide = true;  // exponents of 8 bits, mantissas of 7
  static constexpr uint32_t kOne = 0x3f803f80u;
  static constexpr uint32_t kBase = 0x43004300u;          // 128: its last bits count ones
  static constexpr uint32_t kMinusMiddle4 = 0xc308c308u;  // -(128 + 8)
  static constexpr uint32_t kE4m3Factor = 0x7b807b80u;    // 2^120
  static constexpr uint32_t kE2m1Factor = 0x7e807e80u;    // 2^126
};
template <>
struct CodeConstants<__half> {
  static constexpr bool kWide = false;  // 5 and 10 bits
  static constexpr uint32_t kOne = 0x3c003c00u;
  static constexpr uint32_t kBase = 0x64006400u;          // 1024
  static constexpr uint32_t kMinusMiddle4 = 0xe408e408u;  // -(1024 + 8)
  static constexpr uint32_t kE4m3Factor = 0x5c005c00u;    // 2^8
  static constexpr uint32_t kE2m1Factor = 0x74007400u;    // 2^14
};

__device__ constexpr uint32_t ShiftLeft(uint32_t word, int by) { return by >= 0 ? word << by : word >> -by; }

// Eight codes as four pairs (i, i + 4): numbers less 8 or 128, floats as they are but for NaN. 4 bits: all
// codes in `low`.
template <typename T, CodeKind kKind>
__device__ void UnpackCodes(uint32_t low, uint32_t high, uint32_t (&pairs)[4]) {
  using C = CodeConstants<T>;
  constexpr uint32_t kMinusZero = 0x80008000u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (kKind == CodeKind::kUint4) {
      pairs[i] = FmaPair<T>((low >> (4 * i) & 0x000f000fu) | C::kBase, C::kOne, C::kMinusMiddle4);
    } else if constexpr (kKind == CodeKind::kE2m1) {
      constexpr int kPlace = C::kWide ? 6 : 9;  // of the lowest bit of the mantissa
      const uint32_t magnitude = ShiftLeft(low, kPlace - 4 * i) & 0x00070007u << kPlace;
      pairs[i] = FmaPair<T>((low << (12 - 4 * i) & 0x80008000u) | magnitude, C::kE2m1Factor, kMinusZero);
    } else {
      // Both bytes of a half are the code.
      const uint32_t bytes = __byte_perm(low, high, 0x4400u + 0x1111u * static_cast<uint32_t>(i));
      if constexpr (kKind == CodeKind::kE4m3) {
        const uint32_t magnitude = C::kWide ? bytes >> 4 & 0x07f007f0u : bytes >> 1 & 0x3f803f80u;
        pairs[i] = FmaPair<T>((bytes & 0x80008000u) | magnitude, C::kE4m3Factor, kMinusZero);
      } else if constexpr (C::kWide) {
        // 128 and the lower bits, less 256 or, where the highest bit is set, 128.
        pairs[i] =
            FmaPair<T>((bytes & 0x007f007fu) | C::kBase, C::kOne, (~bytes & 0x00800080u) | 0xc300c300u);
      } else {
        pairs[i] = FmaPair<T>((bytes & 0x00ff00ffu) | C::kBase, C::kOne, 0xe480e480u);
      }
    }
  }
}

// 16 rows of a matrix and some of their steps, for a warp. Start, which begins to read codes, comes before
// Multiply; between them the block fills the activations.
class CodedTile {
 public:
  // Rows from `row` of the matrix's `rows`; past the end the last one is read again, and its sums mean
  // nothing. `ring`: kRingBytes of the warp's own.
  __device__ CodedTile(const void* matrix, int row, int rows, int k, int begin, int end, unsigned char* ring)
      : base_(static_cast<const unsigned char*>(matrix)),
        header_(static_cast<const CodedMatrix*>(matrix)),
        kind_(header_->kind),
        col_shift_(header_->col_shift),
        row_(row),
        rows_(rows),
        k_(k),
        begin_(begin),
        end_(end),
        ring_(ring + threadIdx.x % kWarpSize * 16) {
    const int64_t row_bytes = header_->row_bytes;
    codes_ = base_ + header_->codes + Row(0) * row_bytes + Place() * 16;
    to_second_row_ = static_cast<uint32_t>((Row(1) - Row(0)) * row_bytes);
  }

  // Whether tensor cores take its codes.
  __device__ bool IsFast() const { return kind_ != CodeKind::kTable4 && col_shift_ >= 4; }

  __device__ void Start() const {
    if (!IsFast()) return;
    if (CodeBits(kind_) == 8) {
      StartSteps<8>();
    } else {
      StartSteps<4>();
    }
  }

  // The sums of rows g and g + 8 with every row of activations from `first_input`, whole in every lane of a
  // quad. x: the same activations, [.., k].
  template <typename T, int kInputs>
  __device__ void Multiply(const StagedInputs& inputs, int first_input, const T* x, int present,
                           float (&sums)[kInputs][2]) const {
#pragma unroll
    for (int i = 0; i < kInputs; ++i) sums[i][0] = sums[i][1] = 0.0f;
    if (!IsFast()) {
      MultiplySlowly<T, kInputs>(x, present, sums);
    } else if (kind_ == CodeKind::kUint4) {
      Choose<T, CodeKind::kUint4, kInputs>(inputs, first_input, sums);
    } else if (kind_ == CodeKind::kUint8) {
      Choose<T, CodeKind::kUint8, kInputs>(inputs, first_input, sums);
    } else if (kind_ == CodeKind::kE4m3) {
      Choose<T, CodeKind::kE4m3, kInputs>(inputs, first_input, sums);
    } else {
      Choose<T, CodeKind::kE2m1, kInputs>(inputs, first_input, sums);
    }
#pragma unroll
    for (int i = 0; i < kInputs; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        sums[i][r] += __shfl_xor_sync(kFullWarp, sums[i][r], 1);
        sums[i][r] += __shfl_xor_sync(kFullWarp, sums[i][r], 2);
      }
    }
  }

  __device__ static int Group() { return static_cast<int>(threadIdx.x) % kWarpSize / 4; }

 private:
  __device__ static int Place() { return static_cast<int>(threadIdx.x) % 4; }
  __device__ int64_t Row(int r) const {
    const int row = row_ + Group() + r * 8;
    return row < rows_ ? row : rows_ - 1;
  }

  // Where in a step unit (t, s), column t + 4 s, begins: a lane's pieces are 32 codes of 4 bits, or two
  // of 16.
  template <int kBits>
  __device__ static int UnitK(int t, int s) {
    return kBits == 4 ? t * 32 + s * 16 : s * 64 + t * 16;
  }
  template <int kBits>
  static constexpr int kPieces = kBits / 2;  // in a step: of rows g and g + 8, for every s
  template <int kBits>
  static constexpr int kStages = kRingBytes / (kPieces<kBits> * kPieceBytes);

  template <int kBits>
  __device__ void StartSteps() const {
#pragma unroll
    for (int stage = 0; stage < kStages<kBits>; ++stage) Fetch<kBits>(begin_ + stage, stage);
  }

  // Begins to read a step, and commits; steps past the end are empty.
  template <int kBits>
  __device__ void Fetch(int step, int stage) const {
    if (step < end_) {
      unsigned char* to = ring_ + stage * (kPieces<kBits> * kPieceBytes);
#pragma unroll
      for (int piece = 0; piece < kPieces<kBits>; ++piece) {
        const int k = step * kCodedStep + piece / 2 * 64;  // the second half of bytes
        const bool inside = k + Place() * (128 / kBits) < k_;
        CopyAsync16(to + piece * kPieceBytes,
                    inside ? codes_ + k / 8 * kBits + (piece % 2) * to_second_row_ : base_, inside);
      }
    }
    CopyAsyncCommit();
  }

  // How many scales a row has among a lane's two columns.
  template <typename T, CodeKind kKind, int kInputs>
  __device__ void Choose(const StagedInputs& inputs, int first_input, float (&sums)[kInputs][2]) const {
    if (col_shift_ >= (CodeBits(kKind) == 8 ? 5 : 6)) {
      MultiplyCodes<T, kKind, 1, kInputs>(inputs, first_input, sums);
    } else {
      MultiplyCodes<T, kKind, 2, kInputs>(inputs, first_input, sums);
    }
  }

  template <typename T, CodeKind kKind, int kScales, int kInputs>
  __device__ void MultiplyCodes(const StagedInputs& inputs, int first_input,
                                float (&sums)[kInputs][2]) const {
    constexpr int kBits = CodeBits(kKind);
    constexpr bool kNumbers = kKind == CodeKind::kUint4 || kKind == CodeKind::kUint8;
    constexpr float kMiddle = kBits == 4 ? 8.0f : 128.0f;
    const ScaleType scale_type = header_->scale_type, bias_type = header_->bias_type;
    const int scale_shift = PartShift(scale_type), bias_shift = PartShift(bias_type);
    const unsigned char* scales = base_ + header_->scales;
    const unsigned char* zeros = base_ + header_->zeros;
    const unsigned char* biases = base_ + header_->biases;
    const bool has_zeros = kNumbers && header_->has_zeros != 0;
    const bool has_biases = header_->has_biases != 0;
    const float factor = header_->factor;
    const float zero = kNumbers ? header_->zero - kMiddle : 0.0f;
    const bool corrects = has_zeros || has_biases || zero != 0.0f;
    uint32_t grid_row[2];
#pragma unroll
    for (int r = 0; r < 2; ++r)
      grid_row[r] = static_cast<uint32_t>((Row(r) + header_->first_row) >> header_->row_shift) *
                    static_cast<uint32_t>(header_->groups);
    // This lane's columns of the results, 2 t and the next, as units.
    const int first_column = UnitK<kBits>(Place() % 2 * 2, Place() / 2);
    constexpr int kSecondColumn = kBits == 4 ? 32 : 16;

    // Which scales belong to a step's results of this lane, in rows g and g + 8.
    const auto find_parts = [&](int step, uint32_t(&index)[2 * kScales]) {
#pragma unroll
      for (int i = 0; i < kScales; ++i) {
        int k = step * kCodedStep + first_column + i * kSecondColumn;
        k = k < k_ ? k : k_ - 1;
#pragma unroll
        for (int r = 0; r < 2; ++r)
          index[r * kScales + i] = grid_row[r] + static_cast<uint32_t>(k >> col_shift_);
      }
    };

    // Where this lane's activations lie: those of its unit in the column it supplies, else zeros.
    int from[2], advance[2], next_input[2];
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const bool supplies = Group() == Place() + 4 * s;
      from[s] = supplies
                    ? StagedInputs::kZeroBytes +
                          (first_input * inputs.padded + begin_ * kCodedStep + UnitK<kBits>(Place(), s)) * 2
                    : 0;
      advance[s] = supplies ? kCodedStep * 2 : 0;
      next_input[s] = supplies ? inputs.padded * 2 : 0;
    }

    uint32_t nan[2] = {0, 0};
    int stage = 0;
#pragma unroll 1
    for (int step = begin_; step < end_; ++step) {
      uint32_t index[2 * kScales], words[2 * kScales];
      find_parts(step, index);
      LoadParts(scales, index, scale_shift, words);  // arrive while the codes are multiplied
      CopyAsyncWait<kStages<kBits> - 1>();
      float results[kInputs][4] = {};
      const unsigned char* codes = ring_ + stage * (kPieces<kBits> * kPieceBytes);
      uint4 pieces[kPieces<kBits>];
#pragma unroll
      for (int piece = 0; piece < kPieces<kBits>; ++piece)
        pieces[piece] = *reinterpret_cast<const uint4*>(codes + piece * kPieceBytes);
#pragma unroll
      for (int chunk = 0; chunk < 4; ++chunk) {
        uint32_t pairs[2][4];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const uint4& piece = pieces[kBits == 4 ? r : chunk / 2 * 2 + r];
          const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
          const uint32_t low = words[kBits == 4 ? chunk : chunk % 2 * 2];
          const uint32_t high = words[kBits == 4 ? chunk : chunk % 2 * 2 + 1];
          UnpackCodes<T, kKind>(low, high, pairs[r]);
          if constexpr (kKind == CodeKind::kE4m3) {
            nan[r] |= (low & 0x7f7f7f7fu) + 0x01010101u;
            nan[r] |= (high & 0x7f7f7f7fu) + 0x01010101u;
          }
        }
        const uint32_t first[4] = {pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]};
        const uint32_t second[4] = {pairs[0][2], pairs[1][2], pairs[0][3], pairs[1][3]};
#pragma unroll
        for (int i = 0; i < kInputs; ++i) {
          const uint4 x = *reinterpret_cast<const uint4*>(inputs.zeros + from[chunk / 2] +
                                                          i * next_input[chunk / 2] + chunk % 2 * 16);
          MultiplyAccumulate<T>(results[i], first, x.x, x.y);
          MultiplyAccumulate<T>(results[i], second, x.z, x.w);
        }
      }
      from[0] += advance[0];
      from[1] += advance[1];
      Fetch<kBits>(step + kStages<kBits>, stage);
      stage = (stage + 1) % kStages<kBits>;

      float values[2 * kScales];
      PartValues(words, scale_type, values);
#pragma unroll
      for (int i = 0; i < 2 * kScales; ++i) values[i] *= factor;
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
#pragma unroll
        for (int c = 0; c < 4; ++c)
          sums[i][c / 2] =
              fmaf(values[c / 2 * kScales + c % 2 * (kScales - 1)], results[i][c], sums[i][c / 2]);
      }
      if (!corrects) continue;
      find_parts(step, index);
      float offsets[2 * kScales] = {};
      if (has_biases) {
        LoadParts(biases, index, bias_shift, words);
        PartValues(words, bias_type, offsets);
      }
      if (has_zeros) LoadParts(zeros, index, 0, words);
#pragma unroll
      for (int i = 0; i < 2 * kScales; ++i) {
        const float less = has_zeros ? static_cast<float>(words[i]) - kMiddle : zero;
        offsets[i] = fmaf(-values[i], less, offsets[i]);
      }
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int at =
              (first_input + i) * inputs.padded + step * kCodedStep + first_column + c * kSecondColumn;
          const float sum = inputs.sums[at / kCodedUnit];
#pragma unroll
          for (int r = 0; r < 2; ++r)
            sums[i][r] = fmaf(offsets[r * kScales + c * (kScales - 1)], sum, sums[i][r]);
        }
      }
    }
    if constexpr (kKind == CodeKind::kE4m3) {
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
#pragma unroll
        for (int r = 0; r < 2; ++r)
          if ((nan[r] & 0x80808080u) != 0) sums[i][r] = FloatOfBits(0x7fc00000u);
      }
    }
  }

  // Any kind and group, two rows at a time; only the first lane of a quad gets a sum.
  template <typename T, int kInputs>
  __device__ void MultiplySlowly(const T* x, int present, float (&sums)[kInputs][2]) const {
    constexpr int kTogether = 2;
    const CodedRows codes(base_);
    const int last = end_ * kCodedStep < k_ ? end_ * kCodedStep : k_;
    const int first = begin_ * kCodedStep + static_cast<int>(threadIdx.x) % kWarpSize * kCodeChunk;
#pragma unroll 1
    for (int row = 0; row < kCodedRows; row += kTogether) {
      float dots[kTogether][kInputs] = {};
#pragma unroll 1
      for (int k = first; k < last; k += kWarpSize * kCodeChunk) {
        CodeChunk chunks[kTogether];
        InputChunk<T> in[kInputs];
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
          const int at = row_ + row + j;
          chunks[j] = codes.Load(at < rows_ ? at : rows_ - 1, k);
        }
#pragma unroll
        for (int i = 0; i < kInputs; ++i)
          in[i] = LoadInputChunk<T>(i < present, x + (i < present ? int64_t{1} * i * k_ : 0) + k);
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
          float values[kCodeChunk];
          codes.Values(chunks[j], values);
#pragma unroll
          for (int i = 0; i < kInputs; ++i) dots[j][i] = codes.AddDot(chunks[j], values, in[i], dots[j][i]);
        }
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
#pragma unroll
        for (int i = 0; i < kInputs; ++i) {
          const float sum = WarpSum(dots[j][i]);
          if (Place() == 0 && Group() == (row + j) % 8) {
            if (row + j < 8) {
              sums[i][0] = sum;
            } else {
              sums[i][1] = sum;
            }
          }
        }
      }
    }
  }

  const unsigned char* base_;
  const CodedMatrix* header_;
  CodeKind kind_;
  int col_shift_;
  int row_, rows_, k_, begin_, end_;
  unsigned char* ring_;
  const unsigned char* codes_;  // this lane's first piece
  uint32_t to_second_row_;      // from row g to g + 8, in bytes
};

}  // namespace switchyard::cuda
