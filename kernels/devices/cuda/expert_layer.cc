#include "expert_layer.h"

#include <algorithm>
#include <stdexcept>

#include "coded_contents.h"

namespace switchyard::ops {

namespace {

bool IsQuantized(const WeightRef& ref) { return ref.values->quantized != nullptr; }

// Kernels read all experts of a layer alike: as codes where all can be, else as elements.
bool KeepCodes(const std::vector<ExpertRefs>& experts) {
  return std::all_of(experts.begin(), experts.end(), [](const ExpertRefs& refs) {
    return CanKeepCodes(refs.gate) && CanKeepCodes(refs.up) && CanKeepCodes(refs.down);
  });
}

// Expanded ones come in rows of outputs, plain ones as they are stored.
void CheckOrders(const std::vector<ExpertRefs>& experts) {
  const WeightRef *expanded = nullptr, *turned = nullptr;
  for (const ExpertRefs& refs : experts) {
    for (const WeightRef* ref : {&refs.gate, &refs.up, &refs.down})
      (IsQuantized(*ref) ? expanded : ref->transposed ? turned : expanded) = ref;
  }
  if (turned == nullptr || expanded == nullptr) return;
  throw std::runtime_error("experts '" + turned->values->name + "' are stored transposed and plain, '" +
                           expanded->values->name +
                           "' otherwise; a GPU reads them in one way only: use device cpu");
}

}  // namespace

ExpertLayer::ExpertLayer(const MoeExperts& op, DType dtype, int64_t first_number)
    : dtype_(dtype), first_number_(first_number), pointers_(3 * op.experts.size()) {
  const ExpertRefs& first = op.experts.front();
  const bool as_stored = !IsQuantized(first.gate);
  table_ = {.dtype = dtype,
            .num_experts = static_cast<int>(op.num_experts),
            .hidden = static_cast<int>(op.hidden),
            .intermediate = static_cast<int>(op.intermediate),
            .transposed = as_stored && first.gate.transposed,
            .coded = KeepCodes(op.experts),
            .gate_stride = as_stored ? first.gate.stride : op.hidden,
            .down_stride = as_stored && first.gate.transposed ? first.down.stride : op.intermediate,
            .gate = {},
            .up = {},
            .down = {}};
  if (!table_.coded) CheckOrders(op.experts);
  for (const ExpertRefs& refs : op.experts) {
    experts_.push_back({refs, {}, {}, {}, {}, 0, 0, 0});
    DescribeSlot(experts_.back(), op.fused);
  }
}

void ExpertLayer::DescribeSlot(Expert& expert, bool fused) {
  const auto& [gate, up, down] = expert.refs;
  auto add = [&](const WeightRef& ref) {
    if (table_.coded) return expert.contents.Append(CodedContents(ref));
    if (IsQuantized(ref)) return expert.contents.Append(ExpandedContents(ref, dtype_));
    return expert.contents.Append(PlainContents(*ref.values, ref.First(), ref.rows * ref.cols, dtype_));
  };
  if (fused && !IsQuantized(gate)) {
    // One block: where it is transposed, rows of gate and up alternate.
    expert.gate_offset =
        expert.contents.Append(PlainContents(*gate.values, gate.First(), 2 * gate.rows * gate.cols, dtype_));
    expert.up_offset = expert.gate_offset + (up.First() - gate.First()) * DTypeSize(dtype_);
  } else {
    expert.gate_offset = add(gate);
    expert.up_offset = add(up);
  }
  expert.down_offset = add(down);
  slot_bytes_ = std::max(slot_bytes_, expert.contents.bytes);
}

void ExpertLayer::Require(DeviceTensors& tensors) {
  for (Expert& expert : experts_) {
    expert.gate = tensors.Require(expert.refs.gate, form());
    expert.up = tensors.Require(expert.refs.up, form());
    expert.down = tensors.Require(expert.refs.down, form());
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
