// The weight rows of a tile, brought from codes: loaded 16 bytes at a time, and a step later expanded to the
// elements that plain weights would have been.
//
// A tile's 256 rows are two halves, of two matrices or of one. What belongs to a half, its kind above all, is
// chosen once a step, so that the loops over codes know it. A thread takes 32 codes of each half: a piece of
// one row or, of 8 bits, one of each of two rows. Sixteen of them share a scale.
#pragma once
#include "../coded_matrix.h"
#include "coded_rows.cuh"
#include "fragments.h"
#include "numeric.cuh"

namespace switchyard::cuda {

// Four bytes, each made the lowest of a word (2^23 and a whole number, as fp32) or its highest.
__device__ inline uint32_t ByteOfNumber(uint32_t bytes, int i) {
  return __byte_perm(bytes, kTwoTo23Bits, 0x7440u + static_cast<uint32_t>(i));
}
__device__ inline uint32_t ByteOnTop(uint32_t bytes, int i) {
  return __byte_perm(bytes, 0, 0x0444u + (static_cast<uint32_t>(i) << 12));
}
// The sign stays, the bits below it move down.
__device__ inline uint32_t MoveBelowSign(uint32_t word, int by, uint32_t kept) {
  return static_cast<uint32_t>(static_cast<int32_t>(word) >> by) & kept;
}

// What CodedRows::Values gives. zero: with 2^23 added. 4 bits: all codes in `low`.
template <CodeKind kKind>
__device__ void ValuesOfCodes(uint32_t low, uint32_t high, float zero, const float* table,
                              float (&values)[kCodeChunk]) {
  if constexpr (kKind == CodeKind::kUint4) {
    const uint32_t halves[2] = {low & 0x0f0f0f0fu, low >> 4 & 0x0f0f0f0fu};
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) values[i] = FloatOfBits(ByteOfNumber(halves[i % 2], i / 2)) - zero;
  } else if constexpr (kKind == CodeKind::kUint8) {
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i)
      values[i] = FloatOfBits(ByteOfNumber(i < 4 ? low : high, i % 4)) - zero;
  } else if constexpr (kKind == CodeKind::kE4m3) {
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i)
      values[i] = FloatOfBits(MoveBelowSign(ByteOnTop(i < 4 ? low : high, i % 4), 4, 0x87f00000u)) * 0x1p120f;
    const uint32_t nans[2] = {((low & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u,
                              ((high & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u};
    if ((nans[0] | nans[1]) != 0) {
#pragma unroll
      for (int i = 0; i < kCodeChunk; ++i)
        if ((nans[i / 4] >> (i % 4 * 8 + 7) & 1u) != 0) values[i] = FloatOfBits(0x7fc00000u);
    }
  } else if constexpr (kKind == CodeKind::kE2m1) {
    const uint32_t halves[2] = {low << 4 & 0xf0f0f0f0u, low & 0xf0f0f0f0u};
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i)
      values[i] = FloatOfBits(MoveBelowSign(ByteOnTop(halves[i % 2], i / 2), 6, 0x81c00000u)) * 0x1p126f;
  } else {
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) values[i] = table[low >> (4 * i) & 0xfu];
  }
}

// The whole block calls every member.
template <typename T, bool kGateUp>
class TileCodes {
 public:
  // Rows from `column` of matrix b0 or, in the second half, b1, of n and k each. `headers`: shared memory for
  // kHeaders of them.
  static constexpr int kHeaders = kGateUp ? 2 : 1;
  __device__ TileCodes(const void* b0, const void* b1, int column, int n, int k, CodedMatrix* headers)
      : bases_{static_cast<const unsigned char*>(b0), static_cast<const unsigned char*>(kGateUp ? b1 : b0)},
        headers_(headers),
        column_(column),
        n_(n),
        k_(k) {
    CopyHeader(b0, headers);
    if constexpr (kGateUp) CopyHeader(b1, headers + 1);
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const CodedMatrix& header = Header(half);
      const int bits = CodeBits(header.kind);
      fast_[half] =
          header.col_shift >= 4 && k % (128 / bits) == 0 && (header.codes | header.row_bytes) % 16 == 0;
#pragma unroll
      for (int unit = 0; unit < 2; ++unit) {
        const int64_t row = MatrixRow(half, bits == 4 ? RowOf<4>(0) : RowOf<8>(unit));
        rows_[half][unit] = static_cast<uint32_t>((header.codes + row * header.row_bytes) / 16);
        groups_[half][unit] = static_cast<uint32_t>((row + header.first_row) >> header.row_shift) *
                              static_cast<uint32_t>(header.groups);
      }
    }
  }

  // Begins to load the codes of a step.
  __device__ void Load(int k0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!fast_[half]) continue;
      if (CodeBits(Header(half).kind) == 4) {
        LoadHalf<4>(half, k0);
      } else {
        LoadHalf<8>(half, k0);
      }
    }
  }

  // Writes the elements of the step that was loaded last, swizzled.
  __device__ void Expand(int k0, T* shared) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      T* to = shared + half * kHalfRows * kTileK;
      if (!fast_[half]) {
        ExpandSlowly(half, k0, to);
        continue;
      }
      switch (Header(half).kind) {
        case CodeKind::kUint4:
          ExpandHalf<CodeKind::kUint4>(half, k0, to);
          break;
        case CodeKind::kUint8:
          ExpandHalf<CodeKind::kUint8>(half, k0, to);
          break;
        case CodeKind::kE4m3:
          ExpandHalf<CodeKind::kE4m3>(half, k0, to);
          break;
        case CodeKind::kE2m1:
          ExpandHalf<CodeKind::kE2m1>(half, k0, to);
          break;
        case CodeKind::kTable4:
          ExpandHalf<CodeKind::kTable4>(half, k0, to);
          break;
      }
    }
  }

 private:
  static constexpr int kHalfRows = kTileColumns / 2;
  static_assert(kBlockThreads * 32 == kHalfRows * kTileK);

  // As loaded; [2]: sixteen codes each.
  struct Half {
    uint4 pieces[2];  // 4 bits: the first only
    uint32_t scales[2], zeros[2], biases[2];
  };

  __device__ static void CopyHeader(const void* matrix, CodedMatrix* header) {
    constexpr int kWords = sizeof(CodedMatrix) / sizeof(uint32_t);
    for (int i = threadIdx.x; i < kWords; i += kBlockThreads)
      reinterpret_cast<uint32_t*>(header)[i] = static_cast<const uint32_t*>(matrix)[i];
  }
  __device__ const CodedMatrix& Header(int half) const { return headers_[kGateUp ? half : 0]; }

  // This thread's row of a half, and its piece's place in a step of the row.
  template <int kBits>
  __device__ static int RowOf(int unit) {
    return static_cast<int>(threadIdx.x) / (kBits / 2) + (kBits == 8 ? unit * (kHalfRows / 2) : 0);
  }
  template <int kBits>
  __device__ static int PlaceOf() {
    return static_cast<int>(threadIdx.x) % (kBits / 2) * (128 / kBits);
  }
  // Past the end the last row, whose products nobody reads.
  __device__ int64_t MatrixRow(int half, int row) const {
    const int at = column_ + row + (kGateUp ? 0 : half * kHalfRows);
    return at < n_ ? at : n_ - 1;
  }

  template <int kBits>
  __device__ void LoadHalf(int half, int k0) {
    const CodedMatrix& header = Header(half);
    const unsigned char* base = bases_[half];
    Half& to = halves_[half];
    const int place = k0 + PlaceOf<kBits>();
    const uint32_t k = place < k_ ? place : 0;  // past the end any piece, which counts as zeros
    uint32_t index[2];
#pragma unroll
    for (int unit = 0; unit < 2; ++unit) {
      if (kBits == 8 || unit == 0)
        to.pieces[unit] =
            LoadStream16(base + static_cast<uint64_t>(rows_[half][unit] + k * kBits / 128) * 16);
      index[unit] = groups_[half][unit] + ((k + (kBits == 4 ? unit * 16 : 0)) >> header.col_shift);
    }
    LoadParts(base + header.scales, index, PartShift(header.scale_type), to.scales);
    if (header.has_zeros != 0) LoadParts(base + header.zeros, index, 0, to.zeros);
    if (header.has_biases != 0)
      LoadParts(base + header.biases, index, PartShift(header.bias_type), to.biases);
  }

  template <CodeKind kKind>
  __device__ void ExpandHalf(int half, int k0, T* shared) const {
    const CodedMatrix& header = Header(half);
    if (k0 + PlaceOf<CodeBits(kKind)>() >= k_) return StoreZeros<CodeBits(kKind)>(shared);
    float scales[2], biases[2] = {};
    PartValues(halves_[half].scales, header.scale_type, scales);
    const float factor = header.factor;
#pragma unroll
    for (int unit = 0; unit < 2; ++unit) scales[unit] *= factor;
    if (header.has_biases == 0) return ExpandCodes<kKind, false>(half, scales, biases, shared);
    PartValues(halves_[half].biases, header.bias_type, biases);
    ExpandCodes<kKind, true>(half, scales, biases, shared);
  }

  template <CodeKind kKind, bool kBiases>
  __device__ void ExpandCodes(int half, const float (&scales)[2], const float (&biases)[2], T* shared) const {
    constexpr int kBits = CodeBits(kKind);
    const CodedMatrix& header = Header(half);
    const Half& from = halves_[half];
    const bool has_zeros = header.has_zeros != 0;
    const float zero = header.zero;
#pragma unroll
    for (int unit = 0; unit < 2; ++unit) {
      const float less = kTwoTo23 + (has_zeros ? static_cast<float>(from.zeros[unit]) : zero);
      const uint4& piece = from.pieces[kBits == 8 ? unit : 0];
      const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint32_t low = words[kBits == 8 ? j * 2 : unit * 2 + j];
        const uint32_t high = kBits == 8 ? words[j * 2 + 1] : 0;
        float values[kCodeChunk];
        ValuesOfCodes<kKind>(low, high, less, header.values, values);
#pragma unroll
        for (int i = 0; i < kCodeChunk; ++i) {
          values[i] *= scales[unit];
          if constexpr (kBiases) values[i] = __fadd_rn(values[i], biases[unit]);  // two roundings everywhere
        }
        Store(values, PlaceOfChunk<kBits>(shared, unit, j));
      }
    }
  }

  // Any group and any multiple of eight k's, loaded only now.
  __device__ void ExpandSlowly(int half, int k0, T* shared) const {
    constexpr int kChunksPerRow = kTileK / kChunk;
    const CodedRows codes(&Header(half), bases_[half]);
#pragma unroll 1
    for (int i = threadIdx.x; i < kHalfRows * kChunksPerRow; i += kBlockThreads) {
      const int row = i / kChunksPerRow, chunk = i % kChunksPerRow;
      const int k = k0 + chunk * kChunk;
      float elements[kCodeChunk];
      codes.Elements(codes.Load(MatrixRow(half, row), k < k_ ? k : 0), elements);
#pragma unroll
      for (int j = 0; j < kCodeChunk; ++j) elements[j] = k < k_ ? elements[j] : 0.0f;
      Store(elements, shared + SwizzleByK(row, chunk));
    }
  }

  // Where this thread's chunks of a half belong.
  template <int kBits>
  __device__ static T* PlaceOfChunk(T* shared, int unit, int j) {
    const int chunk = PlaceOf<kBits>() / kChunk + (kBits == 4 ? unit * 2 : 0) + j;
    return shared + SwizzleByK(RowOf<kBits>(unit), chunk);
  }
  __device__ static void Store(const float (&elements)[kCodeChunk], T* to) {
    *reinterpret_cast<uint4*>(to) = {
        PackPair<T>(elements[0], elements[1]), PackPair<T>(elements[2], elements[3]),
        PackPair<T>(elements[4], elements[5]), PackPair<T>(elements[6], elements[7])};
  }
  template <int kBits>
  __device__ static void StoreZeros(T* shared) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      *reinterpret_cast<uint4*>(PlaceOfChunk<kBits>(shared, i / 2, i % 2)) = {0, 0, 0, 0};
  }

  const unsigned char* bases_[2];
  CodedMatrix* headers_;
  int column_, n_, k_;
  bool fast_[2];
  uint32_t rows_[2][2];    // where this thread's rows begin, in 16 bytes
  uint32_t groups_[2][2];  // and their scales, as numbers on the grid
  Half halves_[2];
};

}  // namespace switchyard::cuda
