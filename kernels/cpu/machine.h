// What this machine can do, to judge kernels by. Wall-clock measurements; each takes about the given time.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace switchyard::cpu {

struct ReadBandwidth {
  double gigabytes_per_second;  // the best pattern's best pass, 1e9 bytes a second
  const char* pattern;          // "one range a thread", "interleaved blocks"
};

// Reads `bytes` of `buffer` with all threads, over and over for about `seconds` (at least once a pattern), in
// several access patterns. The buffer must be much larger than the caches for the result to mean memory.
ReadBandwidth MeasureReadBandwidth(const void* buffer, int64_t bytes, double seconds, ThreadPool& pool);

// GFLOP/s (2 per multiply-add) of the fastest bf16-weight product at this precision, all threads, operands in
// cache.
double MeasureFlops(Precision precision, double seconds, ThreadPool& pool);

}  // namespace switchyard::cpu
