// The gate of a whole MLP.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace switchyard::cpu {

// sigmoid(output_gate . x[t]) for each token of x [tokens, hidden], computed like any other product; empty
// without a gate. Resets the workspace.
std::vector<float> OutputScales(const WeightMatrix& output_gate, const float* x, int64_t tokens,
                                Precision precision, Workspace& workspace, ThreadPool& pool);

}  // namespace switchyard::cpu
