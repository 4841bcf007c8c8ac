// Which kernels the MoE layers of a run were executed by.
#pragma once
#include <array>
#include <map>
#include <mutex>
#include <thread>

#include "types.h"

namespace switchyard {

// Calls of MoeExperts by implementation, in the order of ExpertsImplementation.
using ExpertsCalls = std::array<int64_t, kImplementations>;

// Counts the calls of each run of a session. Runs may overlap: ONNX Runtime executes the nodes of one on the
// thread that started it, so the thread says which run a call belongs to.
class ExpertsCounter {
 public:
  // The run of this thread, from construction to destruction.
  class Run {
   public:
    explicit Run(ExpertsCounter& counter) : counter_(counter) {
      std::lock_guard<std::mutex> lock(counter_.mutex_);
      counter_.runs_[std::this_thread::get_id()] = &calls_;
    }
    ~Run() {
      std::lock_guard<std::mutex> lock(counter_.mutex_);
      counter_.runs_.erase(std::this_thread::get_id());
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    const ExpertsCalls& calls() const { return calls_; }

   private:
    ExpertsCounter& counter_;
    ExpertsCalls calls_ = {};
  };

  void Count(ExpertsImplementation implementation) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto run = runs_.find(std::this_thread::get_id());
    if (run != runs_.end()) (*run->second)[static_cast<size_t>(implementation)]++;
  }

 private:
  std::mutex mutex_;
  std::map<std::thread::id, ExpertsCalls*> runs_;
};

}  // namespace switchyard
