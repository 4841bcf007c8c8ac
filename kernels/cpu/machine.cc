#include "machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "arch/isa.h"
#include "parallel.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Runs `pass` until `seconds` are over, at least once; returns the shortest time.
template <typename Pass>
double BestTime(double seconds, const Pass& pass) {
  const Clock::time_point start = Clock::now();
  double best = 1e30;
  do {
    const Clock::time_point begin = Clock::now();
    pass();
    best = std::min(best, SecondsSince(begin));
  } while (SecondsSince(start) < seconds);
  return best;
}

// Touches [data, data + bytes) front to back, in 64-byte lines. As the kernels do, it looks up pages ahead
// and brings the next lines near: without, many processors read less than memory gives.
uint64_t ReadRange(const char* data, int64_t bytes) {
  constexpr int64_t kPage = 4096;
  constexpr int64_t kPagesAhead = 8 * kPage;
  constexpr int64_t kLinesAhead = 2048;
  uint64_t sums[8] = {};
  int64_t at = 0;
  for (; at + 64 <= bytes; at += 64) {
    if (at % kPage == 0) __builtin_prefetch(data + at + kPagesAhead);
    __builtin_prefetch(data + at + kLinesAhead);
    uint64_t line[8];
    std::memcpy(line, data + at, sizeof(line));
    for (int i = 0; i < 8; ++i) sums[i] ^= line[i];
  }
  uint64_t sum = 0;
  for (; at < bytes; ++at) sum ^= static_cast<unsigned char>(data[at]);
  for (const uint64_t part : sums) sum ^= part;
  return sum;
}

// Time of one read of the buffer in pieces of `piece` bytes that threads fetch in turn.
double ReadTime(const char* data, int64_t bytes, int64_t piece, double seconds, ThreadPool& pool) {
  std::atomic<uint64_t> sink{0};
  return BestTime(seconds, [&] {
    ParallelItems(pool, CeilDiv(bytes, piece), [&](int64_t, int64_t item) {
      const int64_t begin = item * piece;
      sink ^= ReadRange(data + begin, std::min(piece, bytes - begin));
    });
  });
}

}  // namespace

ReadBandwidth MeasureReadBandwidth(const void* buffer, int64_t bytes, double seconds, ThreadPool& pool) {
  struct Pattern {
    const char* name;
    int64_t piece;
  };
  const Pattern patterns[] = {
      {"one range a thread", std::max<int64_t>(64, RoundUp(CeilDiv(bytes, pool.NumThreads()), 64))},
      {"blocks of 1 MiB", 1 << 20},
      {"blocks of 128 KiB", 128 << 10},
  };
  ReadBandwidth best{0.0, ""};
  for (const Pattern& pattern : patterns) {
    const double time = ReadTime(static_cast<const char*>(buffer), bytes, pattern.piece, seconds / 3, pool);
    const double rate = static_cast<double>(bytes) / time * 1e-9;
    if (rate > best.gigabytes_per_second) best = {rate, pattern.name};
  }
  return best;
}

double MeasureFlops(Precision precision, double seconds, ThreadPool& pool) {
  // One thread's weights (128 KiB in bf16) and activations fit a second-level cache.
  constexpr int64_t kRows = 64;
  constexpr int64_t kDepth = 1024;
  constexpr int64_t kTokens = 3 * kMostTileTokens;
  static_assert(kTokens % kTileTokens == 0);
  constexpr int64_t kItems = 8;
  const KernelTable& table = Kernels();
  const std::vector<uint16_t> weights(kRows * kDepth, 0x3f80);
  const WeightMatrix matrix = {weights.data(), DType::kBFloat16, kRows, kDepth, kDepth, false};
  const XForm form(table, matrix, precision, kTokens);
  const std::vector<float> ones(kDepth, 1.0f);
  Workspace workspace;
  char* x = workspace.Take<char>(kTokens * form.TokenBytes());
  for (int64_t t = 0; t < kTokens; ++t) form.Store(ones.data(), t, 0, kDepth, x);
  const RowBlock rows(table, matrix, precision, form, 0, kRows, nullptr);
  const int64_t threads = pool.NumThreads();
  std::vector<float> c(static_cast<size_t>(threads * kMostTileTokens * kRows));
  const double time = BestTime(seconds, [&] {
    ParallelItems(pool, threads * kItems, [&](int64_t slot, int64_t) {
      const int64_t size = form.TileTokens();
      for (int64_t tile = 0; tile < form.tiles(); ++tile) {
        rows.Multiply(x, {0, kRows, tile, tile * size, size, tile, form.tiles()},
                      c.data() + slot * kMostTileTokens * kRows, kRows);
      }
    });
  });
  return 2.0 * kRows * kDepth * kTokens * kItems * static_cast<double>(threads) / time * 1e-9;
}

}  // namespace switchyard::cpu
