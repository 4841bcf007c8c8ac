// What the machine is and can do, outside any session.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../common/types.h"

namespace switchyard::ops {

struct CpuInfo {
  std::string isa;                     // instruction set of the kernels in use
  std::vector<std::string> available;  // best first
  std::string problem;                 // why SWITCHYARD_CPU_ISA was not followed; empty when it was
  int cores;                           // physical ones of this process; 0 where the system's files say it
};
CpuInfo DescribeCpu();

struct ReadBandwidth {
  double gigabytes_per_second;  // 1e9 bytes a second
  std::string pattern;          // the access pattern that reached it
};
// Reads a buffer of `bytes` for about `seconds` with `threads` threads.
ReadBandwidth MeasureReadBandwidth(int64_t bytes, double seconds, int threads);

// GFLOP/s of the fastest bf16-weight product from cache.
double MeasureFlops(Precision precision, double seconds, int threads);

}  // namespace switchyard::ops
