// Experts that are read before a router asks for them.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "expert_layout.h"
#include "parallel_reads.h"

namespace switchyard {

// They are read to memory of their own, so that a wrong guess drives nothing out; where one is wanted, its
// memory is exchanged for that of the expert which gives way. One thread at a time but for the counts.
class ExpertsAhead {
 public:
  // `memory`: a piece for each expert that may be read ahead at a time, of the size of the largest.
  ExpertsAhead(ParallelReads& reads, const std::vector<std::byte*>& memory);

  // Begins to read an expert, after those before it, unless that was begun or there is no more room.
  void Begin(int64_t expert, const std::vector<FileStretch>& stretches);

  struct Taken {
    std::byte* memory;
    ParallelReads::BatchPtr read;  // needed from now on; null: all of it is there
  };
  // An expert that is wanted, if it was begun, in exchange for memory that is free.
  std::optional<Taken> Take(int64_t expert, std::byte* in_exchange);

  // The layer has chosen: what it has not taken is read no further.
  void Stop();

  // Experts begun before they were wanted or not; of them, those that were wanted. Any thread.
  int64_t begun() const { return begun_; }
  int64_t wanted() const { return wanted_; }

 private:
  struct Spare {
    std::byte* memory;
    int64_t expert = -1;
    ParallelReads::BatchPtr read = nullptr;  // null: none ever, or taken
    bool is_expected =
        false;  // its layer has not chosen yet: what is there is not given up for another guess
    bool is_counted = false;
  };
  void Count(Spare& spare);

  ParallelReads& reads_;
  std::vector<Spare> spares_;
  size_t next_ = 0;  // spares serve in turn
  std::atomic<int64_t> begun_{0}, wanted_{0};
};

}  // namespace switchyard
