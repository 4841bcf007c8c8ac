#include "experts_ahead.h"

#include <utility>

namespace switchyard {

ExpertsAhead::ExpertsAhead(ParallelReads& reads, const std::vector<std::byte*>& memory) : reads_(reads) {
  spares_.reserve(memory.size());
  for (std::byte* piece : memory) spares_.push_back({piece});
}

void ExpertsAhead::Begin(int64_t expert, const std::vector<FileStretch>& stretches) {
  for (const Spare& spare : spares_) {
    if (spare.expert == expert && spare.read != nullptr) return;
  }
  for (size_t tried = 0; tried < spares_.size(); tried++) {
    Spare& spare = spares_[next_];
    next_ = (next_ + 1) % spares_.size();
    if (spare.is_expected || (spare.read != nullptr && !reads_.HasEnded(spare.read))) continue;
    std::vector<ParallelReads::Part> parts;
    parts.reserve(stretches.size());
    for (const auto& [file, offset, bytes, place] : stretches)
      parts.push_back({file, offset, bytes, spare.memory + place});
    spare = {spare.memory, expert, reads_.Start(parts, ParallelReads::Priority::kAhead), true};
    return;
  }
}

std::optional<ExpertsAhead::Taken> ExpertsAhead::Take(int64_t expert, std::byte* in_exchange) {
  for (Spare& spare : spares_) {
    if (spare.expert != expert || spare.read == nullptr) continue;
    const bool is_there = reads_.IsThere(spare.read);
    // It ended otherwise: its file is cut short, or it was wrong before.
    if (!is_there && reads_.HasEnded(spare.read)) continue;
    if (!is_there) reads_.Need(spare.read);
    Count(spare);
    if (spare.is_counted) wanted_++;
    spare.is_expected = false;
    ParallelReads::BatchPtr read = std::exchange(spare.read, nullptr);
    return Taken{std::exchange(spare.memory, in_exchange), is_there ? nullptr : std::move(read)};
  }
  return std::nullopt;
}

void ExpertsAhead::Stop() {
  for (Spare& spare : spares_) {
    spare.is_expected = false;
    if (spare.read == nullptr) continue;
    Count(spare);
    if (reads_.Stop(spare.read)) spare.expert = -1;
  }
}

// Those that the disk had no time for are no guesses.
void ExpertsAhead::Count(Spare& spare) {
  if (spare.is_counted || !reads_.HasBegun(spare.read)) return;
  spare.is_counted = true;
  begun_++;
}

}  // namespace switchyard
