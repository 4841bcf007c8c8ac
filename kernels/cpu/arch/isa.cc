#include "isa.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../platform/processors.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace switchyard::cpu {
namespace {

struct Candidate {
  const char* name;
  const KernelTable* (*table)();
  const IntegerKernels* (*integer)();
  bool (*supported)();
};

bool Always() { return true; }

#if defined(__x86_64__)
// __builtin_cpu_supports("f16c") is not known to older compilers.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & (1u << 29)) != 0;
}
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c(); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }
// Every processor with the former has the latter.
bool HasAvx512Bf16() { return HasAvx512Vnni() && __builtin_cpu_supports("avx512bf16"); }
bool HasAvx512Vbmi() { return HasAvx512Bf16() && __builtin_cpu_supports("avx512vbmi"); }
// Older compilers do not know these either.
bool HasAmx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kAll = kBf16 | kTile;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return HasAvx512Vbmi() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAll) == kAll &&
         platform::AllowMatrixTiles();
}
#else
bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
bool HasAvx512Vnni() { return false; }
bool HasAvx512Bf16() { return false; }
bool HasAvx512Vbmi() { return false; }
bool HasAmx() { return false; }
#endif

bool HasDotprod() { return platform::FindArmFeatures().dotprod; }
bool HasI8mm() { return HasDotprod() && platform::FindArmFeatures().i8mm; }

// Best first.
constexpr Candidate kCandidates[] = {
    {"amx", AmxTable, Avx512VnniInteger, HasAmx},
    {"avx512_vbmi", Avx512VbmiTable, Avx512VnniInteger, HasAvx512Vbmi},
    {"avx512_bf16", Avx512Bf16Table, Avx512VnniInteger, HasAvx512Bf16},
    {"avx512_vnni", Avx512Table, Avx512VnniInteger, HasAvx512Vnni},
    {"avx512", Avx512Table, Avx512Integer, HasAvx512},
    {"avx2", Avx2Table, Avx2Integer, HasAvx2},
    {"neon_i8mm", NeonTable, NeonI8mmInteger, HasI8mm},
    {"neon_dotprod", NeonTable, NeonDotprodInteger, HasDotprod},
    {"neon", NeonTable, NeonInteger, Always},
    {"portable", PortableTable, PortableInteger, Always},
};
constexpr size_t kCandidateCount = sizeof(kCandidates) / sizeof(kCandidates[0]);

// A candidate's tables put together; its name is null where this processor cannot run it.
KernelTable Compose(const Candidate& candidate) {
  // Asked first: even the function that returns a table is compiled for its instruction set.
  if (!candidate.supported() || candidate.table() == nullptr) return {};
  KernelTable table = *candidate.table();
  table.name = candidate.name;
  table.integer = candidate.integer();
  return table;
}

// The first, or the one of that name.
const KernelTable* Find(const char* name) {
  static const auto tables = [] {
    std::array<KernelTable, kCandidateCount> all;
    for (size_t i = 0; i < kCandidateCount; ++i) all[i] = Compose(kCandidates[i]);
    return all;
  }();
  for (const KernelTable& table : tables) {
    if (table.name != nullptr && (name == nullptr || std::strcmp(table.name, name) == 0)) return &table;
  }
  return nullptr;
}

struct Choice {
  std::atomic<const KernelTable*> table{nullptr};
  std::string error;

  Choice() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    const char* wanted = std::getenv("SWITCHYARD_CPU_ISA");
    if (wanted != nullptr && *wanted != '\0') {
      table = Find(wanted);
      if (table == nullptr) error = Explain(wanted);
    }
    if (table == nullptr) table = Find(nullptr);
  }

  static std::string Explain(const char* wanted) {
    std::string names;
    for (const Candidate& candidate : kCandidates) {
      if (Find(candidate.name) == nullptr) continue;
      names += names.empty() ? candidate.name : std::string(", ") + candidate.name;
    }
    return std::string("SWITCHYARD_CPU_ISA is \"") + wanted +
           "\", which this processor cannot run; set it to one of " + names + ", or unset it.";
  }
};

Choice& Current() {
  static Choice choice;
  return choice;
}

}  // namespace

const KernelTable& Kernels() { return *Current().table.load(std::memory_order_relaxed); }

const char* IsaName() { return Kernels().name; }

const char* IsaError() { return Current().error.c_str(); }

int AvailableIsas(const char** names, int capacity) {
  int count = 0;
  for (const Candidate& candidate : kCandidates) {
    if (Find(candidate.name) == nullptr) continue;
    if (count < capacity) names[count] = candidate.name;
    ++count;
  }
  return count;
}

bool SelectIsa(const char* name) {
  const KernelTable* table = name == nullptr ? nullptr : Find(name);
  if (table == nullptr) return false;
  Current().table = table;
  return true;
}

}  // namespace switchyard::cpu
