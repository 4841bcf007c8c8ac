// The experts of one MoE layer on a GPU: where each lies, or how it lies in a slot while it is there at all.
#pragma once
#include <vector>

#include "../../cuda/kernels.h"
#include "../../ops/moe_experts.h"
#include "device.h"
#include "tensors.h"

namespace switchyard::ops {

class ExpertLayer {
 public:
  // `first_number`: number of expert 0 among all experts of the store. Throws std::runtime_error where
  // experts are stored in ways that kernels cannot read together.
  ExpertLayer(const MoeExperts& op, DType dtype, int64_t first_number);

  // What kernels are told; complete once the layer is placed.
  const cuda::ExpertTable& table() const { return table_; }
  int64_t count() const { return table_.num_experts; }
  int64_t first_number() const { return first_number_; }
  // Bytes of a slot that holds one expert.
  int64_t slot_bytes() const { return slot_bytes_; }
  // Of such a slot.
  const Contents& contents(int64_t expert) const { return experts_[expert].contents; }
  // Whether the expert at this place has its gate matrix in this tensor.
  bool Has(const StoredTensor& gate, int64_t expert) const {
    return expert >= 0 && expert < count() && experts_[expert].refs.gate.values == &gate;
  }

  // All experts stay: asks for their tensors.
  void Require(DeviceTensors& tensors);
  // Bytes of the addresses on the GPU, and where they are; not owned.
  size_t table_bytes() const { return pointers_.size() * sizeof(void*); }
  void PutTableAt(void* memory);
  bool placed() const { return device_pointers_ != nullptr; }

  // An expert's addresses: in its tensors, or in a slot.
  void PointToTensors(int64_t expert);
  void PointToSlot(int64_t expert, const std::byte* slot);
  // Enqueues their way to the GPU.
  void SendPointers(CudaDevice& device);

 private:
  struct Expert {
    ExpertRefs refs;
    DeviceWeight gate, up, down;  // where all stay
    Contents contents;
    int64_t gate_offset, up_offset, down_offset;  // bytes from the start of the slot
  };
  void DescribeSlot(Expert& expert, bool fused);
  void Point(int64_t expert, const void* gate, const void* up, const void* down);

  WeightForm form() const { return table_.coded ? WeightForm::kCodes : WeightForm::kElements; }

  DType dtype_;
  cuda::ExpertTable table_;
  std::vector<Expert> experts_;
  int64_t slot_bytes_ = 0;
  int64_t first_number_;
  std::vector<const void*> pointers_;  // gate of every expert, then up, then down
  void* device_pointers_ = nullptr;
};

}  // namespace switchyard::ops
