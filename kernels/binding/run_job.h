// One run of a session; resolves to { results, expertsCalls }.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "../engine/session.h"
#include "job.h"
#include "tensor.h"

namespace switchyard::binding {

class RunJob : public Job {
 public:
  // feeds: External a session input; outputs: indices of the session's outputs; fetches: External or null for
  // each. Throws Napi::Error for anything that does not fit the session.
  RunJob(Napi::Env env, std::shared_ptr<const ops::Session> session, Napi::Array feeds, Napi::Array outputs,
         Napi::Array fetches);
  ~RunJob() override;

 protected:
  void Execute() override;
  Napi::Value Result(Napi::Env env) override;

  std::shared_ptr<const ops::Session> session_;
  ort::RunOptionsPtr options_;
  std::vector<const ort::OrtValue*> feeds_;
  std::vector<size_t> output_indices_;
  std::vector<ort::OrtValue*> outputs_;
  std::vector<bool> preallocated_;                          // output j is a caller's tensor
  Napi::Reference<Napi::Array> feeds_kept_, fetches_kept_;  // keep the Externals, and through them the memory
  std::vector<std::shared_ptr<void>> device_memory_kept_;
  ExpertsCalls calls_ = {};

 private:
  void Keep(Napi::Env env, const WrappedTensor& tensor);
  void AddFeeds(Napi::Env env, const Napi::Array& feeds);
  void AddFetches(Napi::Env env, const Napi::Array& outputs, const Napi::Array& fetches);
  void Interrupt() override;
};

// A recorded run, with everything it refers to.
struct CapturedStep {
  std::shared_ptr<const ops::Session> session;
  Napi::Reference<Napi::Array> feeds, fetches;
  std::vector<std::shared_ptr<void>> device_memory;
  // Last: ends first. Replays under way share it, so that a release meanwhile does not end it.
  std::shared_ptr<ops::CapturedRun> run;
};

// Records a run instead of executing it; resolves to { run, expertsCalls }, an External of a shared
// CapturedStep and the calls of MoeExperts that a replay stands for.
class CaptureJob final : public RunJob {
 public:
  using RunJob::RunJob;

 private:
  void Execute() override;
  Napi::Value Result(Napi::Env env) override;

  std::unique_ptr<ops::CapturedRun> run_;
};

}  // namespace switchyard::binding
