#include "gated_mlp.h"

namespace switchyard::ops {

OpSchema GatedMlp::Schema() { return {"GatedMlp", {{ort::kFloat}}, {{ort::kFloat}}}; }

GatedMlp::GatedMlp(const KernelInfo& info, const WeightStore& store) : precision(info.ReadPrecision()) {
  gate = FindMatrix(info, store, {info.Int("gate"), "gate"}, kAnyExtent, kAnyExtent);
  up = FindMatrix(info, store, {info.Int("up"), "up"}, gate.rows, gate.cols);
  down = FindMatrix(info, store, {info.Int("down"), "down"}, gate.cols, gate.rows);
  const int64_t handle = info.IntOr("output_gate", kNoWeight);
  if (handle != kNoWeight) output_gate = FindMatrix(info, store, {handle, "output_gate"}, 1, gate.cols);
}

}  // namespace switchyard::ops
