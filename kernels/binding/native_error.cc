#include "native_error.h"

#include <system_error>

#include "../weights/weight_store.h"

namespace switchyard::binding {

Napi::Error CodedError(Napi::Env env, const std::string& message, const char* code) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error NativeError(Napi::Env env, const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const WeightFileError& error) {
    return CodedError(env, error.what(), kWeightFileCode);
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) return Napi::Error::New(env, error.what());
    return Napi::Error::New(
        env,
        "no further thread can be started: a limit of the user (ulimit -u), of the container "
        "(pids.max) or of the machine is reached; raise it, or end other programs");
  } catch (const std::exception& error) {
    return Napi::Error::New(env, error.what());
  } catch (...) {
    return Napi::Error::New(env, "an unknown exception was thrown");
  }
}

}  // namespace switchyard::binding
