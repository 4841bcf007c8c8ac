#include "expert_pool.h"

#include <set>
#include <stdexcept>

namespace switchyard::ops {

ExpertPool::ExpertPool(CudaDevice& device, const WeightStore& store, DType dtype, void* memory, int64_t slots,
                       int64_t slot_bytes, int64_t experts)
    : device_(device),
      store_(store),
      slots_(static_cast<std::byte*>(memory)),
      slot_bytes_(slot_bytes),
      residency_(experts, slots),
      stager_(device, dtype, Stager::Stream::kDevice) {}

// Kernels never look at an expert that is not there, but its alignment counts.
void ExpertPool::Place(ExpertLayer& layer) const {
  for (int64_t expert = 0; expert < layer.count(); expert++) layer.PointToSlot(expert, slots_);
}

void ExpertPool::Bring(ExpertLayer& layer, const int32_t* indices, int64_t count) {
  if (count == 0) return;
  if (device_.capturing()) throw std::runtime_error("experts are fetched on demand, under maxMemory");
  std::vector<int32_t> chosen(static_cast<size_t>(count));
  device_.CopyToHost(chosen.data(), indices, chosen.size() * sizeof(int32_t));
  const std::set<int32_t> different(chosen.begin(), chosen.end());
  std::vector<int64_t> wanted;
  for (const int32_t expert : different) wanted.push_back(layer.first_number() + expert);
  Request(layer, wanted);
  layer.SendPointers(device_);
}

void ExpertPool::Pin(ExpertLayer& layer, int64_t expert) {
  const int64_t number = layer.first_number() + expert;
  if (residency_.IsPinned(number)) return;
  residency_.Pin(number);
  Request(layer, {number});
  pinned_++;
}

void ExpertPool::Request(ExpertLayer& layer, const std::vector<int64_t>& wanted) {
  std::vector<bool> was_there;
  for (const int64_t number : wanted) was_there.push_back(residency_.SlotOf(number) >= 0);
  const std::vector<Residency::Fetch> fetches = residency_.Request(wanted);
  try {
    Fetch(layer, fetches);
  } catch (...) {
    // The next run must not take them to be there.
    for (const auto& [number, slot] : fetches) residency_.Forget(number);
    throw;
  }
  hits_ += static_cast<int64_t>(wanted.size() - fetches.size());
  for (size_t i = 0; i < wanted.size(); i++) {
    if (was_there[i] && residency_.IsPinned(wanted[i])) pinned_hits_++;
    layer.PointToSlot(wanted[i] - layer.first_number(), Slot(residency_.SlotOf(wanted[i])));
  }
}

void ExpertPool::Fetch(const ExpertLayer& layer, const std::vector<Residency::Fetch>& fetches) {
  for (const auto& [number, slot] : fetches) {
    for (const auto& [source, offset] : layer.contents(number - layer.first_number()).parts) {
      stager_.Bring(
          {.source = source.get(), .first = 0, .count = source->count(), .to = Slot(slot) + offset});
      fetched_bytes_ += source->count() * source->item_bytes();
    }
    fetches_++;
  }
  if (!fetches.empty()) store_.CheckUnchanged();
}

}  // namespace switchyard::ops
