// Working memory, the choice of instruction sets, and what the machine could do.
#include <algorithm>
#include <cstring>
#include <vector>

#include "../../../kernels/cpu/machine.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

void WorkspaceReuse() {
  Workspace workspace;
  for (int round = 0; round < 3; ++round) {
    workspace.Reset();
    char* a = workspace.Take<char>(100);
    double* b = workspace.Take<double>(1000);
    const Workspace::Mark mark = workspace.mark();
    float* c = workspace.Take<float>(5000);
    std::memset(a, 1, 100);
    std::fill_n(b, 1000, 2.0);
    std::fill_n(c, 5000, 3.0f);
    workspace.Rewind(mark);
    if (workspace.Take<float>(5000) != c) Fail("rewinding does not give the memory back");
    if (a[99] != 1 || b[0] != 2.0 || b[999] != 2.0 || c[0] != 3.0f) Fail("blocks overlap");
    for (const void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)}) {
      if (reinterpret_cast<uintptr_t>(p) % 64 != 0) Fail("%p is not aligned to 64 bytes", p);
    }
  }
  const size_t settled = workspace.capacity();
  workspace.Reset();
  workspace.Take<char>(20000);
  if (workspace.capacity() != settled) Fail("memory grew although it was large enough");
  Workspace moved(std::move(workspace));
  if (moved.capacity() != settled) Fail("moving lost the memory");
}

void IsaSelection() {
  const std::vector<const char*> names = Isas();
  if (names.empty() || std::strcmp(names.back(), "portable") != 0) Fail("the portable path is missing");
  for (const char* name : names) {
    if (!SelectIsa(name) || std::strcmp(IsaName(), name) != 0) Fail("cannot select %s", name);
  }
  SelectIsa(names[0]);
  if (SelectIsa("sse9") || std::strcmp(IsaName(), names[0]) != 0)
    Fail("an unknown name changed the selection");
}

void MachineLimits() {
  TestPool pool(2);
  std::vector<char> buffer(8 << 20, 1);
  const ReadBandwidth bandwidth =
      MeasureReadBandwidth(buffer.data(), static_cast<int64_t>(buffer.size()), 0.02, pool);
  if (!(bandwidth.gigabytes_per_second > 0))
    Fail("read bandwidth is %g GB/s", bandwidth.gigabytes_per_second);
  for (const Precision precision : kAllPrecisions) {
    const double gflops = MeasureFlops(precision, 0.02, pool);
    if (!(gflops > 0)) Fail("speed is %g GFLOP/s", gflops);
  }
}

}  // namespace

std::vector<Group> MachineGroups() {
  return {
      {"workspace aligns, rewinds and settles", WorkspaceReuse},
      {"instruction sets are selected by name", IsaSelection},
      {"machine limits are measured", MachineLimits},
  };
}

}  // namespace switchyard::cpu
