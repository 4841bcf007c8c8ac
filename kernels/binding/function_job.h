// A job made of two functions.
#pragma once
#include <functional>
#include <memory>
#include <utility>

#include "environment.h"

namespace switchyard::binding {

// `execute` runs on the job's thread, `result` makes of its value what the promise resolves to.
template <typename T>
class FunctionJob final : public Job {
 public:
  FunctionJob(Napi::Env env, std::function<T()> execute, std::function<Napi::Value(Napi::Env, T&)> result)
      : Job(env), execute_(std::move(execute)), result_(std::move(result)) {}

 private:
  void Execute() override { value_ = std::make_unique<T>(execute_()); }
  Napi::Value Result(Napi::Env env) override { return result_(env, *value_); }

  std::function<T()> execute_;
  std::function<Napi::Value(Napi::Env, T&)> result_;
  std::unique_ptr<T> value_;
};

template <typename T>
Napi::Value StartFunction(Napi::Env env, std::function<T()> execute,
                          std::function<Napi::Value(Napi::Env, T&)> result) {
  return Environment::Of(env).Start(
      std::make_unique<FunctionJob<T>>(env, std::move(execute), std::move(result)));
}

}  // namespace switchyard::binding
