// Reads parts of files into memory, many at a time, as disks like it.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "mapped_file.h"

namespace switchyard {

class ParallelReads {
 public:
  // All multiples of platform::kUncachedAlignment.
  struct Part {
    const MappedFile* file;
    uint64_t offset;
    size_t bytes;
    std::byte* to;
  };
  // Parts that were asked for together.
  struct Batch;
  using BatchPtr = std::shared_ptr<Batch>;
  enum class Priority {
    kNeeded,
    kAhead,  // while nothing is needed, and not so many at a time that what is needed then would wait for
             // long
  };

  ParallelReads();
  // Ends when what is under way has been read; nobody may wait for the rest.
  ~ParallelReads();
  ParallelReads(const ParallelReads&) = delete;
  ParallelReads& operator=(const ParallelReads&) = delete;

  // Has all read, past the page cache, in this order.
  BatchPtr Start(const std::vector<Part>& parts, Priority priority);
  // Makes a batch that was read ahead a needed one.
  void Need(const BatchPtr& batch);
  // Reads no more of a batch than what is under way. False where that is all of the rest.
  bool Stop(const BatchPtr& batch);
  // Returns when the last part of a batch is there. Throws std::runtime_error naming the file of the first
  // that failed; the others may have been read then.
  void Finish(const BatchPtr& batch);
  // The same, whatever came of it.
  void Await(const BatchPtr& batch) noexcept;

  // Whether any part of it has been begun; whether none is under way or to come; and whether all were read.
  bool HasBegun(const BatchPtr& batch) const;
  bool HasEnded(const BatchPtr& batch) const;
  bool IsThere(const BatchPtr& batch) const;
  // Read so far, of all batches.
  int64_t bytes() const;

 private:
  void Work();
  // Reads one part, if there is one to be read. Called with the lock, which it gives up meanwhile.
  bool ReadOne(std::unique_lock<std::mutex>& lock);
  std::deque<BatchPtr>* Queue();

  mutable std::mutex mutex_;
  std::condition_variable arrived_, done_;
  std::deque<BatchPtr> needed_, ahead_;  // those with parts that nobody has begun
  int ahead_under_way_ = 0;
  int64_t bytes_ = 0;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace switchyard
