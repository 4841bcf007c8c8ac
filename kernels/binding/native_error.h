// What native code throws, as JavaScript sees it.
#pragma once
#include <napi.h>

#include <exception>
#include <string>

namespace switchyard::binding {

// `code` of errors that JavaScript tells apart.
constexpr const char* kCancelledCode = "SWITCHYARD_CANCELLED";
constexpr const char* kWeightFileCode = "SWITCHYARD_WEIGHT_FILE";

// A JavaScript Error with a `code` property.
Napi::Error CodedError(Napi::Env env, const std::string& message, const char* code);

// An exception as a JavaScript Error, with the code of its kind.
Napi::Error NativeError(Napi::Env env, const std::exception_ptr& exception);

// Calls `body`; what it throws becomes a JavaScript exception with the code of its kind.
template <typename Body>
auto WithCodes(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw NativeError(env, std::current_exception());
  }
}

}  // namespace switchyard::binding
