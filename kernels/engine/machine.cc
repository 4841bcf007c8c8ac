#include "machine.h"

#include <cstring>
#include <memory>

#include "../cpu/arch/isa.h"
#include "../cpu/machine.h"
#include "../platform/processors.h"
#include "worker_pool.h"

namespace switchyard::ops {

CpuInfo DescribeCpu() {
  std::vector<const char*> names(16);
  names.resize(static_cast<size_t>(cpu::AvailableIsas(names.data(), static_cast<int>(names.size()))));
  return {cpu::IsaName(), std::vector<std::string>(names.begin(), names.end()), cpu::IsaError(),
          platform::PhysicalCores()};
}

ReadBandwidth MeasureReadBandwidth(int64_t bytes, double seconds, int threads) {
  auto buffer = std::make_unique_for_overwrite<char[]>(static_cast<size_t>(bytes));
  std::memset(buffer.get(), 1, static_cast<size_t>(bytes));  // gives every page memory of its own
  WorkerPool pool(threads, platform::UsableProcessors());
  const cpu::ReadBandwidth result = cpu::MeasureReadBandwidth(buffer.get(), bytes, seconds, pool);
  return {result.gigabytes_per_second, result.pattern};
}

double MeasureFlops(Precision precision, double seconds, int threads) {
  WorkerPool pool(threads, platform::UsableProcessors());
  return cpu::MeasureFlops(precision, seconds, pool);
}

}  // namespace switchyard::ops
