// Reads parts of files into memory, many at a time, as disks like it.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <exception>
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

  ParallelReads();
  ~ParallelReads();
  ParallelReads(const ParallelReads&) = delete;
  ParallelReads& operator=(const ParallelReads&) = delete;

  // Has all read, past the page cache. Finish() comes before the next Start().
  void Start(const std::vector<Part>& parts);
  // Returns when the last is there. Throws std::runtime_error naming the file of the first that failed; the
  // others may have been read then.
  void Finish();

 private:
  void Work();
  // Takes parts as long as there are any. Called with the lock, which it gives up while it reads.
  void TakeParts(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable arrived_, done_;
  std::vector<Part> parts_;
  size_t next_ = 0, unfinished_ = 0;
  std::exception_ptr fault_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace switchyard
