// The threads jobs run on, and the list of jobs in progress.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "job.h"

namespace switchyard::binding {

// Process-wide and never destroyed: its threads may outlive every JavaScript environment.
class JobThreads {
 public:
  static JobThreads& Instance();

  // Runs `job`, then calls `done` on the job's thread. `job` must live until `done` is called.
  void Start(Job* job, Environment* owner, std::function<void()> done);

  // Cancels the jobs of an environment (nullptr: of all) and waits until their threads are through with them.
  void CancelAndWait(Environment* owner);

 private:
  struct Task {
    uint64_t id;
    Job* job;
    std::function<void()> done;
  };
  struct Entry {
    Environment* owner;
    Job* job;  // null once executed: its environment may delete it at any moment
  };
  JobThreads();
  void StartThread();
  void Work();
  void CancelLocked(Environment* owner);
  bool HasJobs(Environment* owner) const;

  std::mutex mutex_;
  std::condition_variable work_added_, job_finished_;
  std::deque<Task> queue_;
  std::unordered_map<uint64_t, Entry> jobs_;  // by task id; until `done` has returned
  uint64_t last_id_ = 0;
  size_t threads_ = 0, idle_threads_ = 0;
  bool exiting_ = false;  // the process is: JavaScript must not be called any more
};

}  // namespace switchyard::binding
