// What the addon keeps for one JavaScript environment (the main thread or a worker).
#pragma once
#include <napi.h>

#include <memory>
#include <unordered_map>

#include "job.h"

namespace switchyard::binding {

class Environment {
 public:
  // Attaches a new one to `env`.
  static Environment& Create(Napi::Env env);
  static Environment& Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
  explicit Environment(Napi::Env env) : env_(env) {}

  // Runs a job off this thread; the event loop stays alive until its promise has settled. Cancel knows it by
  // `id`.
  Napi::Promise Start(std::unique_ptr<Job> job, int64_t id = 0);
  // Cancels the job with this id, if it has not settled.
  void Cancel(int64_t id);

  Napi::FunctionReference session_constructor, device_constructor;

 private:
  static void OnJobDone(napi_env env, napi_value callback, void* context, void* job);
  static void OnCleanup(void* self);
  void Settle(Job* job);
  std::unique_ptr<Job> Remove(Job* job);

  Napi::Env env_;
  napi_threadsafe_function job_done_ = nullptr;
  struct Entry {
    std::unique_ptr<Job> job;
    int64_t id;
  };
  std::unordered_map<Job*, Entry> jobs_;
};

}  // namespace switchyard::binding
