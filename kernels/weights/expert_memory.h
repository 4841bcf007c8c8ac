// Memory of a bounded size for the experts of models that are larger than memory.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "../common/aligned_memory.h"
#include "expert_layout.h"
#include "experts_ahead.h"
#include "parallel_reads.h"
#include "residency.h"

namespace switchyard {

// Slots that the experts of all layers share. Chosen ones that have none are read from their files, past the
// page cache and all of a layer at once, and the least used give way. Shared by all sessions of a store; runs
// that overlap take turns at their layers of experts.
class ExpertMemory {
 public:
  struct Limits {
    int64_t max_bytes = 0;    // of all weights
    int64_t other_bytes = 0;  // weights that are no experts, and stay where they are mapped
  };
  class Layer;
  class Lease;

  ExpertMemory(std::shared_ptr<const WeightStore> store, Limits limits);
  ~ExpertMemory();

  // While a session opens: the experts of a layer. Sessions that name the same share a layer.
  Layer& Require(const std::vector<ExpertRefs>& experts);

  // Makes the slots for the layers that are known; quick once there are any. Throws std::runtime_error
  // beginning with "maxMemory" where the limit leaves no room for the experts of one layer.
  void Open();

  // Brings experts that stay, the most wanted first: as many as half of the slots, or `max_bytes` unless that
  // is 0, hold beside the experts of any one layer; ends early once `stop` is set. Returns how many of them
  // stay by now. Throws as Open, and std::runtime_error naming the file that cannot be read.
  int64_t Pin(const std::vector<ExpertId>& experts, int64_t max_bytes, const std::atomic<bool>& stop);

  // Of all weights, bytes that memory may hold. Any thread.
  int64_t resident_bytes() const { return limits_.other_bytes + slots_bytes_; }
  ResidencyCounts counts() const;

 private:
  // Experts on their way that arrive together, and what reads them.
  struct Arriving {
    std::vector<Residency::Fetch> fetches;
    std::vector<ParallelReads::BatchPtr> reads;
  };

  void OpenLocked();
  void MakeSlots(int64_t slots, int64_t spares);
  // Begins to bring what is missing of the experts at `places`, and returns it in groups, in the order in
  // which they arrive; Finish waits for one.
  std::vector<Arriving> Start(Layer& layer, const std::vector<int64_t>& places);
  void Bring(Layer& layer, const std::vector<Residency::Fetch>& fetches, std::vector<Arriving>& groups);
  void Finish(const Arriving& arriving);
  void Forget(const std::vector<Residency::Fetch>& fetches);
  bool HasRoomFor(const Layer& layer) const;

  std::shared_ptr<const WeightStore> store_;
  const Limits limits_;
  std::mutex turn_;  // of what follows
  std::map<std::vector<ExpertRefs>, std::unique_ptr<Layer>> layers_;
  int64_t num_experts_ = 0;    // of all layers
  int64_t largest_layer_ = 0;  // experts
  size_t slot_bytes_ = 0;
  AlignedMemory memory_;
  std::unique_ptr<Residency> residency_;  // null: no slots yet
  std::vector<std::byte*> slots_;         // where they are by now
  std::vector<SlotDescriptions> descriptions_;
  std::unique_ptr<ParallelReads> reads_;
  std::unique_ptr<ExpertsAhead> ahead_;
  // Read by any thread.
  std::atomic<bool> is_open_{false};
  std::atomic<int64_t> slots_bytes_{0}, hits_{0}, fetches_{0}, pinned_{0}, pinned_hits_{0};
};

// Has the experts of a layer that `indices` name brought, while nobody else may bring others.
class ExpertMemory::Lease {
 public:
  Lease(ExpertMemory& memory, Layer& layer, const int32_t* indices, int64_t count);
  // Waits for those that are on their way.
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // As kernels are told of them.
  const ExpertWeights* experts() const { return experts_; }
  // How many groups of experts were on their way, and of each expert of the layer in which it is, from 1 on;
  // 0: it is there.
  int32_t groups() const { return static_cast<int32_t>(arriving_.size()); }
  const int32_t* group() const { return group_.data(); }
  // Waits for the next group, if there is one. Throws std::runtime_error naming the file that cannot be read.
  void Arrive();

  // Guesses that the next layer will want these, the likeliest first: what is missing of them is read while
  // nothing else is.
  void Expect(const Layer& next, const int32_t* experts, int64_t count);

 private:
  ExpertMemory& memory_;
  const std::lock_guard<std::mutex> turn_;
  const ExpertWeights* experts_;
  std::vector<int32_t> group_;
  std::vector<Arriving> arriving_;
  size_t arrived_ = 0;  // of these
};

}  // namespace switchyard
