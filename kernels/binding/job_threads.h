// The threads jobs run on, and the list of jobs in progress.
#pragma once
#include <condition_variable>
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

  // Runs `job`, then calls `done` on the job's thread. `job` must live until `done` returns.
  void Start(Job* job, Environment* owner, std::function<void()> done);

  // Cancels the jobs of an environment (nullptr: of all) and waits until their threads are through with them.
  void CancelAndWait(Environment* owner);

  // True once the process is exiting: JavaScript must not be called any more.
  bool exiting();

 private:
  struct Task {
    Job* job;
    std::function<void()> done;
  };
  JobThreads();
  void Work();
  void CancelLocked(Environment* owner);
  bool HasJobs(Environment* owner) const;

  std::mutex mutex_;
  std::condition_variable work_added_, job_finished_;
  std::deque<Task> queue_;
  std::unordered_map<Job*, Environment*> jobs_;  // queued and running
  size_t threads_ = 0, idle_threads_ = 0;
  bool exiting_ = false;
};

}  // namespace switchyard::binding
