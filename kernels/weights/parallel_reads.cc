#include "parallel_reads.h"

#include <algorithm>

#include "../common/start_threads.h"

namespace switchyard {
namespace {

// Reads under way at a time, most of which wait for the disk: a solid-state disk is busy with these, and more
// would not make it faster.
constexpr int kReads = 8;
// Of them, those that are read ahead: enough to keep the disk busy, while a needed one waits for few others.
constexpr int kReadsAhead = 4;
// Bytes of one of them: small enough that none of a few experts' is much longer under way than the others.
constexpr size_t kReadBytes = 1 << 20;

}  // namespace

struct ParallelReads::Batch {
  std::vector<Part> parts;
  size_t next = 0;  // the first that nobody has begun
  size_t under_way = 0;
  bool is_stopped = false;
  std::exception_ptr fault = nullptr;

  bool has_ended() const { return under_way == 0 && next == parts.size(); }
};

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

ParallelReads::BatchPtr ParallelReads::Start(const std::vector<Part>& parts, Priority priority) {
  auto batch = std::make_shared<Batch>();
  for (const auto& [file, offset, bytes, to] : parts) {
    for (size_t at = 0; at < bytes; at += kReadBytes)
      batch->parts.push_back({file, offset + at, std::min(kReadBytes, bytes - at), to + at});
  }
  if (batch->parts.empty()) return batch;
  std::lock_guard<std::mutex> lock(mutex_);
  (priority == Priority::kNeeded ? needed_ : ahead_).push_back(batch);
  arrived_.notify_all();
  return batch;
}

void ParallelReads::Need(const BatchPtr& batch) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (std::find(ahead_.begin(), ahead_.end(), batch) == ahead_.end()) return;
  needed_.push_back(batch);
  std::erase(ahead_, batch);
  arrived_.notify_all();
}

bool ParallelReads::Stop(const BatchPtr& batch) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (std::erase(ahead_, batch) + std::erase(needed_, batch) == 0) return false;
  batch->parts.resize(batch->next);
  batch->is_stopped = true;
  return true;
}

void ParallelReads::Finish(const BatchPtr& batch) {
  Await(batch);
  if (batch->fault != nullptr) std::rethrow_exception(batch->fault);
}

void ParallelReads::Await(const BatchPtr& batch) noexcept {
  std::unique_lock<std::mutex> lock(mutex_);
  // Where the system granted no threads.
  while (threads_.empty() && !batch->has_ended() && ReadOne(lock)) {
  }
  done_.wait(lock, [&] { return batch->has_ended(); });
}

bool ParallelReads::HasBegun(const BatchPtr& batch) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return batch->next > 0;
}

bool ParallelReads::HasEnded(const BatchPtr& batch) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return batch->has_ended();
}

bool ParallelReads::IsThere(const BatchPtr& batch) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return batch->has_ended() && !batch->is_stopped && batch->fault == nullptr;
}

int64_t ParallelReads::bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return bytes_;
}

// What to read from now; null: nothing.
std::deque<ParallelReads::BatchPtr>* ParallelReads::Queue() {
  if (!needed_.empty()) return &needed_;
  return !ahead_.empty() && ahead_under_way_ < kReadsAhead ? &ahead_ : nullptr;
}

bool ParallelReads::ReadOne(std::unique_lock<std::mutex>& lock) {
  std::deque<BatchPtr>* queue = Queue();
  if (queue == nullptr) return false;
  const BatchPtr batch = queue->front();
  const Part part = batch->parts[batch->next++];
  if (batch->next == batch->parts.size()) queue->pop_front();
  const int ahead = queue == &ahead_ ? 1 : 0;
  ahead_under_way_ += ahead;
  batch->under_way++;
  lock.unlock();
  std::exception_ptr fault;
  try {
    part.file->ReadUncached(part.offset, part.bytes, part.to);
  } catch (...) {
    fault = std::current_exception();
  }
  lock.lock();
  ahead_under_way_ -= ahead;
  batch->under_way--;
  if (fault == nullptr) {
    bytes_ += static_cast<int64_t>(part.bytes);
  } else if (batch->fault == nullptr) {
    batch->fault = fault;
  }
  if (batch->has_ended()) done_.notify_all();
  return true;
}

void ParallelReads::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closing_) {
    if (!ReadOne(lock)) arrived_.wait(lock, [this] { return closing_ || Queue() != nullptr; });
  }
}

}  // namespace switchyard
