#include "output_scales.h"

#include <cmath>

namespace switchyard::cpu {

std::vector<float> OutputScales(const WeightMatrix& output_gate, const float* x, int64_t tokens,
                                Precision precision, Workspace& workspace, ThreadPool& pool) {
  if (output_gate.empty()) return {};
  std::vector<float> scales(static_cast<size_t>(tokens));
  float* out = scales.data();
  Linear({x, tokens, &output_gate, nullptr, &out, 1, precision}, workspace, pool);
  for (float& scale : scales) scale = 1.0f / (1.0f + std::exp(-scale));
  return scales;
}

}  // namespace switchyard::cpu
