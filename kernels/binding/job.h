// Work that leaves the JavaScript thread and settles a promise when it is done.
#pragma once
#include <napi.h>

#include <atomic>
#include <exception>

namespace switchyard::binding {

class Environment;

// Created and settled on the JavaScript thread, executed on a thread of its own. Not libuv's pool: that has
// four threads for the whole process, and process.exit() waits for them.
class Job {
 public:
  explicit Job(Napi::Env env) : deferred_(Napi::Promise::Deferred::New(env)) {}
  virtual ~Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  Napi::Promise Promise() const { return deferred_.Promise(); }

  // Any thread: asks the job to end early; its promise then rejects with code SWITCHYARD_CANCELLED.
  void Cancel();

  // Job thread: executes and keeps what was thrown.
  void Run() noexcept;
  // JavaScript thread: settles the promise. Throws nothing; an environment that is being torn down refuses,
  // and then nobody is left to hear the result.
  void Settle(Napi::Env env) noexcept;

 protected:
  virtual void Execute() = 0;                     // job thread
  virtual Napi::Value Result(Napi::Env env) = 0;  // JavaScript thread, after Execute returned
  virtual void Interrupt() {}                     // any thread; may come before, during or after Execute
  bool cancelled() const { return cancelled_; }

 private:
  void Resolve(Napi::Env env);
  void Reject(const Napi::Error& error);

  Napi::Promise::Deferred deferred_;
  std::atomic<bool> cancelled_{false};
  std::exception_ptr failure_;
};

}  // namespace switchyard::binding
