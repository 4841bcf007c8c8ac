// Objects that JavaScript and native code share.
#pragma once
#include <napi.h>

#include <memory>
#include <utility>

namespace switchyard::binding {

// JavaScript's handle of a shared object.
template <typename T>
Napi::Value Share(Napi::Env env, std::shared_ptr<T> object) {
  auto owned = std::make_unique<std::shared_ptr<T>>(std::move(object));
  Napi::Value external = Napi::External<std::shared_ptr<T>>::New(
      env, owned.get(), [](Napi::Env, std::shared_ptr<T>* finished) { delete finished; });
  owned.release();
  return external;
}

// The object behind a handle.
template <typename T>
std::shared_ptr<T>& Shared(Napi::Value external) {
  if (!external.IsExternal()) throw Napi::TypeError::New(external.Env(), "expected an object of a device");
  return *external.As<Napi::External<std::shared_ptr<T>>>().Data();
}

}  // namespace switchyard::binding
