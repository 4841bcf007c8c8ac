// Checks every CPU kernel against double-precision loops, on every instruction set this machine has.
//   kernels_test            runs all groups
//   kernels_test --list     prints the groups
//   kernels_test GROUP...   runs these
//   kernels_test --widest [GROUP...]  on the widest instruction set alone
//   kernels_test --isa      prints the instruction set in use and why SWITCHYARD_CPU_ISA was not followed
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "testing.h"

namespace switchyard::cpu {
namespace {

const std::vector<Group> kGroups = [] {
  std::vector<Group> all;
  for (const auto groups :
       {MachineGroups, ElementwiseGroups, LinearGroups, RowPanelsGroups, RouterGroups, ExpertsGroups,
        TopCandidatesGroups, AttentionGroups, CacheAppendGroups, GatedDeltaNetGroups, QuantizedGroups,
        IntegerGroups, RoundingGroups, SparseIndexGroups}) {
    const std::vector<Group> own = groups();
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}();

int Main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--list") == 0) {
    for (const Group& group : kGroups) std::puts(group.name);
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], "--isa") == 0) {
    std::puts(IsaName());
    if (*IsaError() != '\0') std::puts(IsaError());
    return 0;
  }
  if (argc > 1 && std::strcmp(argv[1], "--widest") == 0) {
    widest_only = true;
    --argc, ++argv;
  }
  int run = 0;
  for (const Group& group : kGroups) {
    const bool wanted = argc == 1 || std::any_of(argv + 1, argv + argc, [&](const char* name) {
                          return std::strcmp(name, group.name) == 0;
                        });
    if (!wanted) continue;
    const int before = failures;
    group.run();
    ++run;
    std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", group.name);
    std::fflush(stdout);
  }
  if (run == 0) Fail("no group of that name; --list shows them");
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cpu

int main(int argc, char** argv) { return switchyard::cpu::Main(argc, argv); }
