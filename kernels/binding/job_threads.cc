#include "job_threads.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "../platform/process.h"

namespace switchyard::binding {
namespace {

// More overlapping runs than this wait their turn; each would only slow the others down.
constexpr size_t kMaxThreads = 64;
// A cancelled run ends after the graph node it is in; an exit does not wait longer than this for it.
constexpr std::chrono::seconds kExitPatience{10};

}  // namespace

JobThreads& JobThreads::Instance() {
  static JobThreads* instance = new JobThreads;
  return *instance;
}

// Registered after ONNX Runtime was opened, so this runs before the library's own static destructors: a run
// in progress would crash on what they destroy.
JobThreads::JobThreads() {
  platform::AtExit([] {
    JobThreads& self = Instance();
    std::unique_lock<std::mutex> lock(self.mutex_);
    self.exiting_ = true;
    self.CancelLocked(nullptr);
    self.job_finished_.wait_for(lock, kExitPatience, [&] { return !self.HasJobs(nullptr); });
  });
}

void JobThreads::Start(Job* job, Environment* owner, std::function<void()> done) {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t id = ++last_id_;
  jobs_.emplace(id, Entry{owner, job});
  try {
    queue_.push_back({id, job, std::move(done)});
    if (queue_.size() > idle_threads_ && threads_ < kMaxThreads) StartThread();
  } catch (...) {
    // Nobody may take a job of which the caller hears that it was not started.
    if (!queue_.empty() && queue_.back().id == id) queue_.pop_back();
    jobs_.erase(id);
    throw;
  }
  work_added_.notify_one();
}

void JobThreads::StartThread() {
  try {
    std::thread([this] { Work(); }).detach();
    threads_++;
  } catch (const std::exception&) {
    // Those that there are take it in their turn.
    if (threads_ == 0) throw;
  }
}

void JobThreads::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    idle_threads_++;
    work_added_.wait(lock, [&] { return !queue_.empty(); });
    idle_threads_--;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task.job->Run();
    lock.lock();
    jobs_[task.id].job = nullptr;
    const bool deliver = !exiting_;
    lock.unlock();
    if (deliver) task.done();
    lock.lock();
    jobs_.erase(task.id);
    job_finished_.notify_all();
  }
}

void JobThreads::CancelAndWait(Environment* owner) {
  std::unique_lock<std::mutex> lock(mutex_);
  CancelLocked(owner);
  job_finished_.wait(lock, [&] { return !HasJobs(owner); });
}

void JobThreads::CancelLocked(Environment* owner) {
  for (auto& [id, entry] : jobs_) {
    if (entry.job != nullptr && (owner == nullptr || entry.owner == owner)) entry.job->Cancel();
  }
}

bool JobThreads::HasJobs(Environment* owner) const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [&](const auto& entry) { return owner == nullptr || entry.second.owner == owner; });
}

}  // namespace switchyard::binding
