// What the tests of the CPU kernels share: checks that print and count, threads, random numbers, guarded
// outputs.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../../kernels/cpu/arch/isa.h"
#include "../../../kernels/cpu/kernels.h"

namespace switchyard::cpu {

inline int failures = 0;

__attribute__((format(printf, 1, 2))) inline void Fail(const char* format, ...) {
  if (++failures > 20) return;
  va_list args;
  va_start(args, format);
  std::vfprintf(stderr, format, args);
  va_end(args);
  std::fputc('\n', stderr);
}

// Starts fresh threads for every loop, so that thread sanitizers and odd thread counts see the real thing.
class TestPool : public ThreadPool {
 public:
  explicit TestPool(int threads) : threads_(threads) {}
  int NumThreads() const override { return threads_; }
  void For(int64_t count, void (*body)(void*, int64_t), void* state) override {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i; (i = next.fetch_add(1)) < count;) body(state, i);
    };
    std::vector<std::thread> threads;
    for (int64_t t = 1; t < std::min<int64_t>(threads_, count); ++t) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int threads_;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t Int(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }
  float Normal() { return normal_(engine_); }
  std::vector<float> Normals(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = Normal();
    return values;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

inline constexpr DType kAllDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
inline constexpr Precision kAllPrecisions[] = {Precision::kFloat32, Precision::kBFloat16};
// The instruction sets of this processor, the widest first.
inline std::vector<const char*> AllIsas() {
  std::vector<const char*> names(8);
  names.resize(static_cast<size_t>(AvailableIsas(names.data(), 8)));
  return names;
}
// Whether the widest alone is to be tried.
inline bool widest_only = false;
inline std::vector<const char*> Isas() {
  std::vector<const char*> names = AllIsas();
  if (widest_only) names.resize(1);
  return names;
}

// Output memory full of NaN between guards.
class Output {
 public:
  explicit Output(int64_t n) : values_(static_cast<size_t>(n + 2 * kGuard), kGuardValue), count_(n) {
    std::fill_n(data(), n, std::numeric_limits<float>::quiet_NaN());
  }
  float* data() { return values_.data() + kGuard; }
  float operator[](int64_t i) const { return values_[static_cast<size_t>(kGuard + i)]; }
  int64_t size() const { return count_; }
  void CheckGuards(const std::string& what) const {
    for (int64_t i = 0; i < kGuard; ++i) {
      const size_t end = values_.size() - 1 - static_cast<size_t>(i);
      if (values_[static_cast<size_t>(i)] != kGuardValue || values_[end] != kGuardValue) {
        Fail("%s: wrote outside its output", what.c_str());
        return;
      }
    }
  }

 private:
  static constexpr int64_t kGuard = 32;
  static constexpr float kGuardValue = 12345.0f;
  std::vector<float> values_;
  int64_t count_;
};

struct Group {
  const char* name;
  void (*run)();
};

// The groups of each X_cases.cc.
std::vector<Group> MachineGroups();
std::vector<Group> ElementwiseGroups();
std::vector<Group> LinearGroups();
std::vector<Group> RowPanelsGroups();
std::vector<Group> RouterGroups();
std::vector<Group> ExpertsGroups();
std::vector<Group> TopCandidatesGroups();
std::vector<Group> AttentionGroups();
std::vector<Group> CacheAppendGroups();
std::vector<Group> QuantizedGroups();
std::vector<Group> IntegerGroups();
std::vector<Group> GatedDeltaNetGroups();
std::vector<Group> RoundingGroups();
std::vector<Group> SparseIndexGroups();

}  // namespace switchyard::cpu
