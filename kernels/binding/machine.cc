#include "machine.h"

#include <memory>
#include <string>

#include "../engine/machine.h"
#include "../platform/pages.h"
#include "environment.h"

namespace switchyard::binding {
namespace {

class BandwidthJob final : public Job {
 public:
  BandwidthJob(Napi::Env env, int64_t bytes, double seconds, int threads)
      : Job(env), bytes_(bytes), seconds_(seconds), threads_(threads) {}

 private:
  void Execute() override { result_ = ops::MeasureReadBandwidth(bytes_, seconds_, threads_); }
  Napi::Value Result(Napi::Env env) override {
    Napi::Object object = Napi::Object::New(env);
    object.Set("gigabytesPerSecond", result_.gigabytes_per_second);
    object.Set("pattern", result_.pattern);
    return object;
  }

  int64_t bytes_;
  double seconds_;
  int threads_;
  ops::ReadBandwidth result_{};
};

class FlopsJob final : public Job {
 public:
  FlopsJob(Napi::Env env, Precision precision, double seconds, int threads)
      : Job(env), precision_(precision), seconds_(seconds), threads_(threads) {}

 private:
  void Execute() override { result_ = ops::MeasureFlops(precision_, seconds_, threads_); }
  Napi::Value Result(Napi::Env env) override { return Napi::Number::New(env, result_); }

  Precision precision_;
  double seconds_;
  int threads_;
  double result_ = 0;
};

double NumberArgument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsNumber() || !(info[index].ToNumber().DoubleValue() >= 0)) {
    throw Napi::TypeError::New(info.Env(),
                               "argument " + std::to_string(index) + " must be a number, 0 or more");
  }
  return info[index].ToNumber().DoubleValue();
}

}  // namespace

Napi::Value CpuInfo(const Napi::CallbackInfo& info) {
  const ops::CpuInfo cpu = ops::DescribeCpu();
  Napi::Array features = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < cpu.available.size(); i++)
    features[i] = Napi::String::New(info.Env(), cpu.available[i]);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("isa", cpu.isa);
  object.Set("features", features);
  object.Set("problem", cpu.problem);
  object.Set("cores", cpu.cores);
  object.Set("largePageBytes", static_cast<double>(platform::LargePageSize()));
  return object;
}

Napi::Value MeasureReadBandwidth(const Napi::CallbackInfo& info) {
  const auto bytes = static_cast<int64_t>(NumberArgument(info, 0));
  return Environment::Of(info.Env())
      .Start(std::make_unique<BandwidthJob>(info.Env(), bytes, NumberArgument(info, 1),
                                            static_cast<int>(NumberArgument(info, 2))));
}

Napi::Value MeasureFlops(const Napi::CallbackInfo& info) {
  const auto precision = static_cast<Precision>(static_cast<int>(NumberArgument(info, 0)));
  return Environment::Of(info.Env())
      .Start(std::make_unique<FlopsJob>(info.Env(), precision, NumberArgument(info, 1),
                                        static_cast<int>(NumberArgument(info, 2))));
}

}  // namespace switchyard::binding
