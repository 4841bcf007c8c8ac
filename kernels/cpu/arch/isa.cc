#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace switchyard::cpu {
namespace {

struct Candidate {
  const char* name;
  const KernelTable* (*table)();
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
#else
bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
bool HasAvx512Vnni() { return false; }
bool HasAvx512Bf16() { return false; }
#endif

// Best first.
constexpr Candidate kCandidates[] = {
    {"avx512_bf16", Avx512Bf16Table, HasAvx512Bf16},
    {"avx512_vnni", Avx512VnniTable, HasAvx512Vnni},
    {"avx512", Avx512Table, HasAvx512},
    {"avx2", Avx2Table, HasAvx2},
    {"neon", NeonTable, Always},
    {"portable", PortableTable, Always},
};

const KernelTable* Find(const char* name) {
  for (const Candidate& candidate : kCandidates) {
    if (name != nullptr && std::strcmp(candidate.name, name) != 0) continue;
    // Asked first: even the function that returns a table is compiled for its instruction set.
    if (candidate.supported() && candidate.table() != nullptr) return candidate.table();
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
