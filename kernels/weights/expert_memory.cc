#include "expert_memory.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "../platform/file_view.h"
#include "../platform/pages.h"

namespace switchyard {
namespace {

// Experts that may be read ahead at a time: those of a token in most models.
constexpr int64_t kSpares = 8;

// Experts that are needed arrive in so many groups at most, the next of which is read while one is computed
// with; and so many bytes are a group at least, as computing in pieces has a price.
constexpr size_t kMostGroups = 8;
constexpr size_t kLeastGroupBytes = 16 << 20;

std::string BytesText(int64_t bytes) {
  if (bytes < 100'000) return std::to_string(bytes) + " bytes";
  char text[32];
  std::snprintf(text, sizeof text, bytes < 100'000'000 ? "%.4g MB" : "%.4g GB",
                static_cast<double>(bytes) / (bytes < 100'000'000 ? 1e6 : 1e9));
  return text;
}

}  // namespace

class ExpertMemory::Layer {
 public:
  // `first_number`: number of expert 0 among all experts.
  Layer(const WeightStore& store, const std::vector<ExpertRefs>& experts, int64_t first_number)
      : first_number_(first_number) {
    for (const ExpertRefs& refs : experts) {
      layouts_.emplace_back(store, refs);
      slot_bytes_ = std::max(slot_bytes_, layouts_.back().slot_bytes());
      weights_.push_back(InPlace(refs));
    }
  }

  int64_t count() const { return static_cast<int64_t>(layouts_.size()); }
  int64_t first_number() const { return first_number_; }
  size_t slot_bytes() const { return slot_bytes_; }
  const ExpertLayout& layout(int64_t place) const { return layouts_[static_cast<size_t>(place)]; }
  const ExpertLayout& layout_of(int64_t number) const { return layout(number - first_number_); }
  bool Has(const StoredTensor& gate, int64_t place) const {
    return place >= 0 && place < count() && layout(place).refs().gate.values == &gate;
  }

  const ExpertWeights* weights() const { return weights_.data(); }
  void PointToSlot(int64_t place, const std::byte* slot, SlotDescriptions& descriptions) {
    weights_[static_cast<size_t>(place)] = layout(place).InSlot(slot, descriptions);
  }

 private:
  const int64_t first_number_;
  std::vector<ExpertLayout> layouts_;
  size_t slot_bytes_ = 0;
  // Those without a slot point to where they were last, or to their files.
  std::vector<ExpertWeights> weights_;
};

ExpertMemory::ExpertMemory(std::shared_ptr<const WeightStore> store, Limits limits)
    : store_(std::move(store)), limits_(limits) {}

ExpertMemory::~ExpertMemory() = default;

ExpertMemory::Layer& ExpertMemory::Require(const std::vector<ExpertRefs>& experts) {
  std::lock_guard<std::mutex> lock(turn_);
  if (const auto known = layers_.find(experts); known != layers_.end()) return *known->second;
  const auto& layer =
      layers_.emplace(experts, std::make_unique<Layer>(*store_, experts, num_experts_)).first->second;
  num_experts_ += layer->count();
  if (residency_ != nullptr) {
    residency_->AddExperts(layer->count());
  } else {
    largest_layer_ = std::max(largest_layer_, layer->count());
    slot_bytes_ = std::max(slot_bytes_, layer->slot_bytes());
  }
  return *layer;
}

void ExpertMemory::Open() {
  std::lock_guard<std::mutex> lock(turn_);
  OpenLocked();
}

void ExpertMemory::OpenLocked() {
  if (residency_ != nullptr || num_experts_ == 0) return;
  const auto slot_bytes = static_cast<int64_t>(slot_bytes_);
  const int64_t least = limits_.other_bytes + largest_layer_ * slot_bytes;
  if (least > limits_.max_bytes) {
    throw std::runtime_error("maxMemory allows " + BytesText(limits_.max_bytes) +
                             " of weights in memory, but this model needs at least " + BytesText(least) +
                             " (" + std::to_string(least) + " bytes): " + BytesText(limits_.other_bytes) +
                             " that every token reads, and " + BytesText(largest_layer_ * slot_bytes) +
                             " for the experts of one layer. Raise it (--max-memory)");
  }
  const int64_t room = (limits_.max_bytes - limits_.other_bytes) / std::max<int64_t>(1, slot_bytes);
  const int64_t spares = std::min(kSpares, (room - largest_layer_) / 4);
  MakeSlots(std::min(num_experts_, room - spares), spares);
}

void ExpertMemory::MakeSlots(int64_t slots, int64_t spares) {
  const size_t bytes = static_cast<size_t>(slots + spares) * slot_bytes_;
  // Reads need whole blocks, and are fastest into large pages.
  constexpr uintptr_t kBlock = platform::kUncachedAlignment;
  memory_ = AllocateAligned(bytes + kBlock);
  std::byte* next = memory_.get() + (kBlock - reinterpret_cast<uintptr_t>(memory_.get()) % kBlock) % kBlock;
  platform::PreferLargePages(next, bytes);
  std::vector<std::byte*> pieces;
  for (int64_t piece = 0; piece < slots + spares; piece++, next += slot_bytes_) pieces.push_back(next);
  slots_.assign(pieces.begin(), pieces.begin() + slots);
  descriptions_.resize(static_cast<size_t>(slots));
  reads_ = std::make_unique<ParallelReads>();
  ahead_ = std::make_unique<ExpertsAhead>(*reads_, std::vector(pieces.begin() + slots, pieces.end()));
  residency_ = std::make_unique<Residency>(num_experts_, slots);
  slots_bytes_ = static_cast<int64_t>(bytes);
  is_open_ = true;
}

ResidencyCounts ExpertMemory::counts() const {
  ResidencyCounts counts = {
      .hits = hits_, .fetches = fetches_, .pinned = pinned_, .pinned_hits = pinned_hits_};
  if (!is_open_) return counts;
  counts.bytes = reads_->bytes();
  counts.ahead = ahead_->begun();
  counts.ahead_wanted = ahead_->wanted();
  return counts;
}

int64_t ExpertMemory::Pin(const std::vector<ExpertId>& experts, int64_t max_bytes,
                          const std::atomic<bool>& stop) {
  std::lock_guard<std::mutex> lock(turn_);
  OpenLocked();
  if (residency_ == nullptr) return 0;
  const int64_t slots = residency_->slots();
  const int64_t allowed = max_bytes == 0 ? slots / 2 : max_bytes / std::max<int64_t>(1, slot_bytes_);
  const int64_t most = std::min(slots - largest_layer_, allowed);
  for (const auto& [gate, place] : experts) {
    const StoredTensor& tensor = store_->Get(gate);
    for (auto& [refs, layer] : layers_) {
      if (pinned_ >= most || stop.load(std::memory_order_relaxed)) return pinned_;
      const int64_t number = layer->first_number() + place;
      if (!layer->Has(tensor, place) || layer->slot_bytes() > slot_bytes_ || residency_->IsPinned(number))
        continue;
      for (const Arriving& group : Start(*layer, {place})) Finish(group);
      residency_->Pin(number);
      pinned_++;
    }
  }
  return pinned_;
}

std::vector<ExpertMemory::Arriving> ExpertMemory::Start(Layer& layer, const std::vector<int64_t>& places) {
  std::vector<int64_t> wanted;
  for (const int64_t place : places) {
    const int64_t number = layer.first_number() + place;
    wanted.push_back(number);
    if (residency_->IsPinned(number)) pinned_hits_++;
  }
  const std::vector<Residency::Fetch> fetches = residency_->Request(wanted);
  hits_ += static_cast<int64_t>(wanted.size() - fetches.size());
  std::vector<Arriving> groups;
  try {
    Bring(layer, fetches, groups);
  } catch (...) {
    // Nobody else may be given slots that are read to.
    for (const Arriving& group : groups) {
      for (const ParallelReads::BatchPtr& read : group.reads) reads_->Await(read);
    }
    Forget(fetches);
    throw;
  }
  return groups;
}

void ExpertMemory::Bring(Layer& layer, const std::vector<Residency::Fetch>& fetches,
                         std::vector<Arriving>& groups) {
  // No read may begin and not be noted: there is room for all of them beforehand.
  groups.reserve(kMostGroups + 1);
  Arriving* group = &groups.emplace_back();
  group->reads.reserve(fetches.size() + 1);
  std::vector<Residency::Fetch> missing;
  size_t missing_bytes = 0;
  for (const Residency::Fetch& fetch : fetches) {
    std::byte*& slot = slots_[static_cast<size_t>(fetch.slot)];
    const std::optional<ExpertsAhead::Taken> taken = ahead_->Take(fetch.expert, slot);
    if (taken) {
      slot = taken->memory;
      if (taken->read != nullptr) group->reads.push_back(taken->read);
    }
    layer.PointToSlot(fetch.expert - layer.first_number(), slot,
                      descriptions_[static_cast<size_t>(fetch.slot)]);
    if (!taken) {
      missing.push_back(fetch);
      missing_bytes += layer.layout_of(fetch.expert).slot_bytes();
    } else if (taken->read != nullptr) {
      group->fetches.push_back(fetch);
    } else {
      fetches_++;
    }
  }
  ahead_->Stop();
  const size_t group_bytes = std::max(kLeastGroupBytes, missing_bytes / kMostGroups);
  std::vector<ParallelReads::Part> parts;
  size_t bytes = 0;
  for (const Residency::Fetch& fetch : missing) {
    if (bytes >= group_bytes) {
      group->reads.push_back(reads_->Start(std::exchange(parts, {}), ParallelReads::Priority::kNeeded));
      group = &groups.emplace_back();
      group->reads.reserve(1);
      bytes = 0;
    }
    const ExpertLayout& layout = layer.layout_of(fetch.expert);
    std::byte* slot = slots_[static_cast<size_t>(fetch.slot)];
    for (const FileStretch& stretch : layout.stretches())
      parts.push_back({stretch.file, stretch.offset, stretch.bytes, slot + stretch.place});
    bytes += layout.slot_bytes();
    group->fetches.push_back(fetch);
  }
  if (!parts.empty()) group->reads.push_back(reads_->Start(parts, ParallelReads::Priority::kNeeded));
  if (group->fetches.empty()) groups.pop_back();
}

void ExpertMemory::Finish(const Arriving& arriving) {
  std::exception_ptr fault;
  for (const ParallelReads::BatchPtr& read : arriving.reads) {
    try {
      reads_->Finish(read);
    } catch (...) {
      fault = std::current_exception();
    }
  }
  if (fault != nullptr) {
    Forget(arriving.fetches);
    std::rethrow_exception(fault);
  }
  fetches_ += static_cast<int64_t>(arriving.fetches.size());
}

// The next run must not take them to be there.
void ExpertMemory::Forget(const std::vector<Residency::Fetch>& fetches) {
  for (const auto& [number, slot] : fetches) residency_->Forget(number);
}

// One that came after the slots were made, and has larger experts or more, is read where it is mapped.
bool ExpertMemory::HasRoomFor(const Layer& layer) const {
  return layer.slot_bytes() <= slot_bytes_ && layer.count() <= largest_layer_;
}

ExpertMemory::Lease::Lease(ExpertMemory& memory, Layer& layer, const int32_t* indices, int64_t count)
    : memory_(memory), turn_(memory.turn_), experts_(layer.weights()) {
  memory.OpenLocked();
  if (!memory.HasRoomFor(layer)) return;
  group_.resize(static_cast<size_t>(layer.count()), 0);
  std::vector<bool> is_wanted(group_.size());
  for (int64_t i = 0; i < count; i++) is_wanted[static_cast<size_t>(indices[i])] = true;
  std::vector<int64_t> places;
  for (int64_t place = 0; place < layer.count(); place++) {
    if (is_wanted[static_cast<size_t>(place)]) places.push_back(place);
  }
  arriving_ = memory.Start(layer, places);
  for (size_t i = 0; i < arriving_.size(); i++) {
    for (const auto& [number, slot] : arriving_[i].fetches)
      group_[static_cast<size_t>(number - layer.first_number())] = static_cast<int32_t>(i) + 1;
  }
}

ExpertMemory::Lease::~Lease() {
  while (arrived_ < arriving_.size()) {
    try {
      Arrive();
    } catch (const std::runtime_error&) {
      // Nobody has computed with them.
    }
  }
}

void ExpertMemory::Lease::Arrive() {
  if (arrived_ < arriving_.size()) memory_.Finish(arriving_[arrived_++]);
}

void ExpertMemory::Lease::Expect(const Layer& next, const int32_t* experts, int64_t count) {
  if (!memory_.HasRoomFor(next)) return;
  for (int64_t i = 0; i < count; i++) {
    const int64_t number = next.first_number() + experts[i];
    if (memory_.residency_->SlotOf(number) >= 0) continue;
    memory_.ahead_->Begin(number, next.layout(experts[i]).stretches());
  }
}

}  // namespace switchyard
