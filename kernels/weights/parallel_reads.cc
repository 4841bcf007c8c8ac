#include "parallel_reads.h"

#include <algorithm>
#include <utility>

#include "../common/start_threads.h"

namespace switchyard {
namespace {

// Reads under way at a time, most of which wait for the disk: a solid-state disk is busy with these, and more
// would not make it faster.
constexpr int kReads = 8;
// Bytes of one of them: small enough that none of a few experts' is much longer under way than the others.
constexpr size_t kReadBytes = 1 << 20;

}  // namespace

ParallelReads::ParallelReads() {
  threads_ = StartThreads(kReads, [this] { Work(); });
}

ParallelReads::~ParallelReads() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  arrived_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ParallelReads::Start(const std::vector<Part>& parts) {
  std::vector<Part> reads;
  for (const auto& [file, offset, bytes, to] : parts) {
    for (size_t at = 0; at < bytes; at += kReadBytes)
      reads.push_back({file, offset + at, std::min(kReadBytes, bytes - at), to + at});
  }
  std::lock_guard<std::mutex> lock(mutex_);
  parts_ = std::move(reads);
  next_ = 0;
  unfinished_ = parts_.size();
  fault_ = nullptr;
  arrived_.notify_all();
}

void ParallelReads::Finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  // Where the system granted no threads.
  if (threads_.empty()) TakeParts(lock);
  done_.wait(lock, [this] { return unfinished_ == 0; });
  if (fault_ != nullptr) std::rethrow_exception(std::exchange(fault_, nullptr));
}

void ParallelReads::TakeParts(std::unique_lock<std::mutex>& lock) {
  while (next_ < parts_.size()) {
    const Part part = parts_[next_++];
    lock.unlock();
    std::exception_ptr fault;
    try {
      part.file->ReadUncached(part.offset, part.bytes, part.to);
    } catch (...) {
      fault = std::current_exception();
    }
    lock.lock();
    if (fault != nullptr && fault_ == nullptr) fault_ = fault;
    if (--unfinished_ == 0) done_.notify_one();
  }
}

void ParallelReads::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closing_) {
    TakeParts(lock);
    arrived_.wait(lock, [this] { return closing_ || next_ < parts_.size(); });
  }
}

}  // namespace switchyard
