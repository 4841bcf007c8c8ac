#include "job.h"

#include "native_error.h"

namespace switchyard::binding {

void Job::Cancel() {
  cancelled_ = true;
  Interrupt();
}

void Job::Run() noexcept {
  if (cancelled_) return;
  try {
    Execute();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Job::Settle(Napi::Env env) noexcept {
  try {
    if (cancelled_) {
      Reject(CodedError(env, "the run was cancelled", kCancelledCode));
    } else if (failure_ != nullptr) {
      Reject(NativeError(env, failure_));
    } else {
      Resolve(env);
    }
  } catch (...) {
    // The environment takes nothing any more.
  }
}

void Job::Resolve(Napi::Env env) {
  Napi::Value result;
  try {
    result = Result(env);
  } catch (const Napi::Error& error) {
    return Reject(error);
  } catch (...) {
    return Reject(NativeError(env, std::current_exception()));
  }
  deferred_.Resolve(result);
}

void Job::Reject(const Napi::Error& error) { deferred_.Reject(error.Value()); }

}  // namespace switchyard::binding
