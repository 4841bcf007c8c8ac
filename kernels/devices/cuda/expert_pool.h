// A bounded number of slots on a GPU that experts of all layers share: the least used give way.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "../../weights/residency.h"
#include "expert_layer.h"
#include "stager.h"

namespace switchyard::ops {

class ExpertPool {
 public:
  // `memory`: `slots` slots of slot_bytes each, not owned; `experts`: of all layers.
  ExpertPool(CudaDevice& device, const WeightStore& store, DType dtype, void* memory, int64_t slots,
             int64_t slot_bytes, int64_t experts);

  // Addresses for a layer of which no expert is there yet.
  void Place(ExpertLayer& layer) const;
  // Brings the experts that `count` indices on the device name. The caller holds the device's run_mutex.
  void Bring(ExpertLayer& layer, const int32_t* indices, int64_t count);
  // Brings an expert that stays. The caller holds the device's run_mutex, and leaves slots for the experts of
  // any layer.
  void Pin(ExpertLayer& layer, int64_t expert);

  ResidencyCounts counts() const { return {hits_, fetches_, fetched_bytes_, pinned_, pinned_hits_}; }

 private:
  std::byte* Slot(int64_t number) const { return slots_ + number * slot_bytes_; }
  void Request(ExpertLayer& layer, const std::vector<int64_t>& wanted);
  void Fetch(const ExpertLayer& layer, const std::vector<Residency::Fetch>& fetches);

  CudaDevice& device_;
  const WeightStore& store_;
  std::byte* slots_;
  int64_t slot_bytes_;
  Residency residency_;
  Stager stager_;
  // Read by any thread.
  std::atomic<int64_t> hits_{0}, fetches_{0}, fetched_bytes_{0}, pinned_{0}, pinned_hits_{0};
};

}  // namespace switchyard::ops
