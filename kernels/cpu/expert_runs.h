// The gated MLP of many experts at once: out = down(silu(gate x) * up x) for runs of tokens that share an
// expert.
#pragma once
#include <cstdint>

#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace switchyard::cpu {

// Positions [first, first + count) belong to one expert.
struct ExpertRun {
  const ExpertWeights* weights;
  int64_t first;
  int64_t count;
};

struct ExpertRunsArgs {
  const float* x;         // activations, [*, hidden]
  const int32_t* tokens;  // row of x at each position; null: the position itself
  const ExpertRun* runs;  // ascending and contiguous: the first begins at position 0
  int64_t run_count;
  Precision precision;
  float* out;                          // [positions, hidden]
  FetchFrom from = FetchFrom::kStart;  // where threads begin
};
void RunExperts(const ExpertRunsArgs& args, Workspace& workspace, ThreadPool& pool);

// Bytes of scratch that RunExperts takes for each position, not counting `out`: at most this where gate and
// up have one dtype, as in every known checkpoint.
int64_t ExpertScratchBytes(int64_t hidden, int64_t intermediate);

}  // namespace switchyard::cpu
