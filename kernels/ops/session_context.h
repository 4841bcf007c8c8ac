// What the CPU kernels of one session share.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "../common/experts_calls.h"
#include "../common/routed_tokens.h"
#include "../cpu/kernels.h"
#include "../cpu/workspace.h"
#include "../weights/expert_memory.h"
#include "../weights/weight_store.h"
#include "op.h"
#include "routed_layers.h"

namespace switchyard::ops {

// Scratch memory for kernels. Runs of a session may overlap, so each kernel call borrows a workspace of its
// own; there are never more of them than calls that overlapped.
class WorkspacePool {
 public:
  // A borrowed workspace; gives itself back.
  class Lease {
   public:
    explicit Lease(WorkspacePool& pool) : pool_(pool), workspace_(pool.Take()) {}
    ~Lease() { pool_.Give(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    cpu::Workspace& operator*() { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<cpu::Workspace> workspace_;
  };

 private:
  std::unique_ptr<cpu::Workspace> Take() {
    std::unique_ptr<cpu::Workspace> workspace = TakeFree();
    // Not when it is given back, because there may be no memory for that.
    workspace->Reset();
    return workspace;
  }
  std::unique_ptr<cpu::Workspace> TakeFree() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) {
      free_.reserve(made_ + 1);
      auto workspace = std::make_unique<cpu::Workspace>();
      made_++;
      return workspace;
    }
    std::unique_ptr<cpu::Workspace> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }
  // There is room for all that were made.
  void Give(std::unique_ptr<cpu::Workspace> workspace) noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  std::mutex mutex_;
  size_t made_ = 0;
  std::vector<std::unique_ptr<cpu::Workspace>> free_;
};

struct SessionContext {
  ThreadPool* pool = nullptr;
  std::shared_ptr<const WeightStore> store;
  ExpertMemory* experts = nullptr;  // null: they are read where they are mapped
  ExpertsCounter* calls = nullptr;
  SessionRouting* routing = nullptr;
  WorkspacePool workspaces;
  RoutedLayers routed_layers;  // where experts are not all in memory
};

}  // namespace switchyard::ops
