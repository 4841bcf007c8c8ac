// What the emulated tests share: guarded memory, random tensors and comparisons. Device buffers end at an
// unmapped page, so that reading or writing past one ends the program, and outputs start as NaNs.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "../../../kernels/cuda/common/launch.h"
#include "../../../kernels/cuda/common/numeric.cuh"
#include "testing.h"

namespace testing {

using switchyard::DType;
using switchyard::cuda::ElementSize;
using switchyard::cuda::LoadAs;
using switchyard::cuda::StoreAs;

inline constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

// Memory filled with NaNs that ends where the page after it is unmapped (to within its 16-byte alignment, or
// exactly).
class Guarded {
 public:
  explicit Guarded(size_t bytes, size_t alignment = 16) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (std::max<size_t>(bytes, 1) + page - 1) / page * page;
    mapped_ = usable + page;
    base_ = static_cast<unsigned char*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + usable, page, PROT_NONE);
    data_ = base_ + usable - (bytes + alignment - 1) / alignment * alignment;
    std::memset(data_, 0xff, bytes);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, mapped_); }
  unsigned char* data() const { return data_; }
  template <typename T>
  T* As() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  size_t mapped_;
  unsigned char* base_;
  unsigned char* data_;
};

// Random elements of a dtype, and the values they stand for.
struct Tensor {
  Tensor(DType dtype_, int64_t count, float scale, size_t alignment = 16)
      : dtype(dtype_), memory(count * ElementSize(dtype_), alignment), values(count) {
    for (int64_t i = 0; i < count; ++i) {
      StoreAs(memory.data(), dtype, i, RandomFloat() * scale);
      values[i] = LoadAs(memory.data(), dtype, i);
    }
  }
  Tensor(DType dtype_, const Tensor& unrounded)
      : dtype(dtype_), memory(unrounded.values.size() * ElementSize(dtype_)), values(unrounded.values) {
    for (size_t i = 0; i < values.size(); ++i) {
      StoreAs(memory.data(), dtype, static_cast<int64_t>(i), values[i]);
      values[i] = LoadAs(memory.data(), dtype, static_cast<int64_t>(i));
    }
  }
  const unsigned char* At(int64_t element) const { return memory.data() + element * ElementSize(dtype); }
  DType dtype;
  Guarded memory;
  std::vector<float> values;
};

// The same elements rounded to another type.
inline Tensor RoundedTo(DType dtype, const Tensor& tensor) { return Tensor(dtype, tensor); }

// Whether both buffers hold the same bits.
inline bool SameBits(const Guarded& a, const Guarded& b, size_t bytes) {
  return std::memcmp(a.data(), b.data(), bytes) == 0;
}

// Largest difference allowed, relative to the largest expected value.
inline double Tolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 2e-6;
  return dtype == DType::kFloat16 ? 2e-3 : 1.6e-2;
}

inline void ExpectClose(const void* actual, DType dtype, const std::vector<double>& expected,
                        double tolerance, const char* what) {
  double scale = 0.0;
  for (const double value : expected) scale = std::max(scale, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = LoadAs(actual, dtype, static_cast<int64_t>(i));
    const bool close = std::fabs(value - expected[i]) <= tolerance * scale;
    EXPECT(close, "%s: element %zu is %g, not %g", what, i, value, expected[i]);
    if (!close) return;
  }
}

}  // namespace testing

// Cases of the files beside.
void CachedAttentionMatchesTheReference();
void RowsShareBlocks();
void RowsAreReadFromTheDevice();
void PlacesOutsideTheCache();
void AttentionInWideBlocks();
void AttentionMatchesTheReference();
void AttentionRefusesSizes();
void TopCandidatesMatchASort();
void DeltaNetMatchesTheRecurrence();
void DeltaNetRefusesRowsThatDoNotFit();
void BlockIndexMatchesTheReference();
void EqualScoresKeepTheFirstBlocks();
void BlockIndexRefusesPlaces();
void SelectedAttentionMatchesTheReference();
void CausalConvMatchesTheReference();
void CausalConvRefusesRowsThatDoNotFit();
void NgramRowsWrapAround();
void TopKChoosesAsTheReference();
void TopKOfNanIsInRange();
void RouterMatchesTheReference();
void GemvMatchesTheReference();
void GemvRefusesWhatDoesNotFit();
void DependentKernelsHaveToWait();
void EmbeddingAndConversion();
void CodesAreWhatTheSpecificationSays();
void CodedTilesMatchTheElements();
void CodedLinearMatchesTheReference();
void CodedExpertsMatchTheReference();
void CodedGatedMlpMatchesTheReference();
