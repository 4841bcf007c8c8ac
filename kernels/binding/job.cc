#include "job.h"

#include <exception>

namespace switchyard::binding {

void Job::Cancel() {
  cancelled_ = true;
  Interrupt();
}

void Job::Run() {
  if (cancelled_) return;
  try {
    Execute();
  } catch (const std::exception& error) {
    failed_ = true;
    error_ = error.what();
  }
}

void Job::Settle(Napi::Env env) {
  if (cancelled_) {
    deferred_.Reject(CodedError(env, "the run was cancelled", kCancelledCode).Value());
  } else if (failed_) {
    deferred_.Reject(Napi::Error::New(env, error_).Value());
  } else {
    deferred_.Resolve(Result(env));
  }
}

Napi::Error CodedError(Napi::Env env, const std::string& message, const char* code) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace switchyard::binding
