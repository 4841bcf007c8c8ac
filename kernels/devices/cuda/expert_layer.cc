#include "expert_layer.h"

namespace switchyard::ops {

ExpertLayer::ExpertLayer(const MoeExperts& op, DType dtype, int64_t first_number)
    : dtype_(dtype), first_number_(first_number), pointers_(3 * op.experts.size()) {
  const ExpertRefs& first = op.experts.front();
  table_ = {.dtype = dtype,
            .num_experts = static_cast<int>(op.num_experts),
            .hidden = static_cast<int>(op.hidden),
            .intermediate = static_cast<int>(op.intermediate),
            .transposed = first.gate.transposed,
            .gate_stride = first.gate.stride,
            .down_stride = first.down.stride,
            .gate = {},
            .up = {},
            .down = {}};
  for (const ExpertRefs& refs : op.experts) {
    experts_.push_back({refs, {}, {}, {}, {}, 0, 0, 0});
    DescribeSlot(experts_.back(), op.fused);
  }
}

// Gate and up of a fused tensor are one block: where it is transposed, their rows alternate.
void ExpertLayer::DescribeSlot(Expert& expert, bool fused) {
  const int64_t size = DTypeSize(dtype_);
  const auto& [gate, up, down] = expert.refs;
  const int64_t matrix = gate.rows * gate.cols;
  int64_t end = 0;
  auto add = [&](const WeightRef& ref, int64_t count) {
    const int64_t offset = end;
    expert.blocks.push_back({ref.values, ref.First(), count, offset});
    end += Aligned(count * size);
    return offset;
  };
  expert.gate_offset = add(gate, fused ? 2 * matrix : matrix);
  expert.up_offset = fused ? expert.gate_offset + (up.First() - gate.First()) * size : add(up, matrix);
  expert.down_offset = add(down, matrix);
  slot_bytes_ = end;
}

void ExpertLayer::Require(DeviceTensors& tensors) {
  for (Expert& expert : experts_) {
    expert.gate = tensors.Require(expert.refs.gate);
    expert.up = tensors.Require(expert.refs.up);
    expert.down = tensors.Require(expert.refs.down);
  }
}

void ExpertLayer::PutTableAt(void* memory) {
  device_pointers_ = memory;
  const void* const* host = pointers_.data();
  const auto* device = static_cast<const void* const*>(memory);
  const int64_t count = this->count();
  table_.gate = {device, host};
  table_.up = {device + count, host + count};
  table_.down = {device + 2 * count, host + 2 * count};
}

void ExpertLayer::Point(int64_t expert, const void* gate, const void* up, const void* down) {
  pointers_[expert] = gate;
  pointers_[count() + expert] = up;
  pointers_[2 * count() + expert] = down;
}

void ExpertLayer::PointToTensors(int64_t expert) {
  const Expert& e = experts_[expert];
  Point(expert, e.gate.Data(dtype_), e.up.Data(dtype_), e.down.Data(dtype_));
}

void ExpertLayer::PointToSlot(int64_t expert, const std::byte* slot) {
  const Expert& e = experts_[expert];
  Point(expert, slot + e.gate_offset, slot + e.up_offset, slot + e.down_offset);
}

void ExpertLayer::SendPointers(CudaDevice& device) {
  device.CopyToDevice(device_pointers_, pointers_.data(), table_bytes());
}

}  // namespace switchyard::ops
