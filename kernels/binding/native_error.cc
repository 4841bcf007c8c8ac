#include "native_error.h"

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
  } catch (const std::exception& error) {
    return Napi::Error::New(env, error.what());
  } catch (...) {
    return Napi::Error::New(env, "an unknown exception was thrown");
  }
}

}  // namespace switchyard::binding
