// A job made of two functions.
#pragma once
#include <functional>
#include <memory>
#include <utility>

#include "environment.h"

namespace switchyard::binding {

// `execute` runs on the job's thread, `result` makes of its value what the promise resolves to; `interrupt`
// has `execute` end early, from any thread.
template <typename T>
class FunctionJob final : public Job {
 public:
  FunctionJob(Napi::Env env, std::function<T()> execute, std::function<Napi::Value(Napi::Env, T&)> result,
              std::function<void()> interrupt)
      : Job(env),
        execute_(std::move(execute)),
        result_(std::move(result)),
        interrupt_(std::move(interrupt)) {}

 private:
  void Execute() override { value_ = std::make_unique<T>(execute_()); }
  Napi::Value Result(Napi::Env env) override { return result_(env, *value_); }
  void Interrupt() override {
    if (interrupt_) interrupt_();
  }

  std::function<T()> execute_;
  std::function<Napi::Value(Napi::Env, T&)> result_;
  std::function<void()> interrupt_;
  std::unique_ptr<T> value_;
};

template <typename T>
Napi::Value StartFunction(Napi::Env env, std::function<T()> execute,
                          std::function<Napi::Value(Napi::Env, T&)> result,
                          std::function<void()> interrupt = nullptr) {
  return Environment::Of(env).Start(
      std::make_unique<FunctionJob<T>>(env, std::move(execute), std::move(result), std::move(interrupt)));
}

}  // namespace switchyard::binding
