#include "environment.h"

#include "job_threads.h"
#include "native_error.h"

namespace switchyard::binding {
namespace {

void CheckNapi(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

}  // namespace

Environment& Environment::Create(Napi::Env env) {
  auto* self = new Environment(env);
  env.SetInstanceData(self);
  CheckNapi(
      env, napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "switchyard job"), 0,
                                           1, nullptr, nullptr, self, OnJobDone, &self->job_done_));
  CheckNapi(env, napi_unref_threadsafe_function(env, self->job_done_));
  // Hooks run last-added first: this one, added after the function above, still finds it open.
  CheckNapi(env, napi_add_env_cleanup_hook(env, OnCleanup, self));
  return *self;
}

Napi::Promise Environment::Start(std::unique_ptr<Job> owned, int64_t id) {
  Job* job = owned.get();
  Napi::Promise promise = job->Promise();
  if (jobs_.empty()) CheckNapi(env_, napi_ref_threadsafe_function(env_, job_done_));
  jobs_.emplace(job, Entry{std::move(owned), id});
  try {
    JobThreads::Instance().Start(job, this, [function = job_done_, job] {
      napi_call_threadsafe_function(function, job, napi_tsfn_blocking);
    });
  } catch (...) {
    Remove(job);
    throw NativeError(env_, std::current_exception());
  }
  return promise;
}

void Environment::Cancel(int64_t id) {
  for (auto& [job, entry] : jobs_) {
    if (entry.id == id) job->Cancel();
  }
}

std::unique_ptr<Job> Environment::Remove(Job* job) {
  auto found = jobs_.find(job);
  if (found == jobs_.end()) return nullptr;
  std::unique_ptr<Job> owned = std::move(found->second.job);
  jobs_.erase(found);
  if (jobs_.empty()) napi_unref_threadsafe_function(env_, job_done_);
  return owned;
}

void Environment::OnJobDone(napi_env env, napi_value, void* context, void* job) {
  if (env == nullptr) return;  // the environment is being torn down and `context` is gone
  static_cast<Environment*>(context)->Settle(static_cast<Job*>(job));
}

void Environment::Settle(Job* job) {
  std::unique_ptr<Job> owned = Remove(job);
  if (owned == nullptr) return;
  Napi::HandleScope scope(env_);
  owned->Settle(env_);
}

// The environment is going away, perhaps in the middle of a run: end the runs, whose tensors live in its
// heap.
void Environment::OnCleanup(void* data) {
  auto* self = static_cast<Environment*>(data);
  // Also where every job has settled: a thread may still be about to leave the function that told of the
  // last.
  JobThreads::Instance().CancelAndWait(self);
  self->jobs_.clear();
}

}  // namespace switchyard::binding
