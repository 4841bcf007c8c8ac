#include "../processors.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "text.h"

namespace switchyard::platform {
namespace {

// One record a core, of different lengths.
std::vector<std::byte> CoreRecords() {
  DWORD bytes = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &bytes);
  std::vector<std::byte> records(bytes);
  auto* first = reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(records.data());
  if (GetLogicalProcessorInformationEx(RelationProcessorCore, first, &bytes) == 0) return {};
  records.resize(bytes);
  return records;
}

// The mask is of the process's own group of processors, and says nothing where it runs in several.
bool MayUse(const PROCESSOR_RELATIONSHIP& core, DWORD_PTR allowed) {
  if (allowed == 0) return true;
  for (WORD i = 0; i < core.GroupCount; i++) {
    if ((core.GroupMask[i].Mask & allowed) != 0) return true;
  }
  return false;
}

}  // namespace

int PhysicalCores() {
  DWORD_PTR allowed = 0, existing = 0;
  GetProcessAffinityMask(GetCurrentProcess(), &allowed, &existing);
  const std::vector<std::byte> records = CoreRecords();
  int cores = 0;
  for (size_t at = 0; at < records.size();) {
    const auto* record = reinterpret_cast<const SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(&records[at]);
    if (MayUse(record->Processor, allowed)) cores++;
    at += record->Size;
  }
  return cores;
}

int UsableProcessors() {
  DWORD_PTR allowed = 0, existing = 0;
  GetProcessAffinityMask(GetCurrentProcess(), &allowed, &existing);
  if (allowed != 0) return std::popcount(static_cast<uint64_t>(allowed));
  // The process runs in several groups of processors.
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// Those that let programs use tiles do so unasked; others do not save them.
bool AllowMatrixTiles() {
  constexpr DWORD64 kTileData = 1ull << 18;
  return (GetEnabledXStateFeatures() & kTileData) != 0;
}

// There is no addon for Windows on Arm.
ArmFeatures FindArmFeatures() { return {}; }

}  // namespace switchyard::platform
