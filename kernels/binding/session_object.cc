#include "session_object.h"

#include <vector>

#include "device_object.h"
#include "environment.h"
#include "run_job.h"
#include "weight_store_object.h"

namespace switchyard::binding {
namespace {

class OpenJob final : public Job {
 public:
  OpenJob(Napi::Env env, const Napi::Uint8Array& model, ops::SessionConfig config)
      : Job(env), model_(model.Data(), model.Data() + model.ByteLength()), config_(std::move(config)) {}

 private:
  void Execute() override { session_ = ops::Session::Open(model_.data(), model_.size(), std::move(config_)); }
  Napi::Value Result(Napi::Env env) override {
    return Environment::Of(env).session_constructor.New(
        {Napi::External<std::shared_ptr<ops::Session>>::New(env, &session_)});
  }

  std::vector<uint8_t> model_;  // a copy: the graph is small, and the caller may change its array meanwhile
  ops::SessionConfig config_;
  std::shared_ptr<ops::Session> session_;
};

// Freeing joins the session's threads, which takes longer than an event loop should wait.
class DisposeJob final : public Job {
 public:
  DisposeJob(Napi::Env env, std::shared_ptr<ops::Session> session) : Job(env), session_(std::move(session)) {}

 private:
  void Execute() override { session_ = nullptr; }
  Napi::Value Result(Napi::Env env) override { return env.Undefined(); }

  std::shared_ptr<ops::Session> session_;
};

Napi::Array Describe(Napi::Env env, const std::vector<ops::ValueInfo>& values) {
  Napi::Array result = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); i++) {
    const ops::ValueInfo& value = values[i];
    Napi::Array shape = Napi::Array::New(env, value.shape.size());
    for (uint32_t d = 0; d < value.shape.size(); d++) {
      if (value.shape[d] >= 0) {
        shape[d] = Napi::Number::New(env, static_cast<double>(value.shape[d]));
      } else {
        shape[d] = Napi::String::New(env, value.symbols[d]);
      }
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", value.name);
    object.Set("type", Napi::Number::New(env, value.type));
    object.Set("shape", shape);
    result[i] = object;
  }
  return result;
}

}  // namespace

Napi::Value OpenSession(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 7 || !info[0].IsTypedArray() || !info[1].IsObject() || !info[2].IsNumber() ||
      !info[3].IsArray() || !info[4].IsArray()) {
    throw Napi::TypeError::New(env,
                               "openSession(model, store, threads, boundInputs, boundHandles, device, "
                               "deviceStore): wrong arguments");
  }
  ops::SessionConfig config;
  const auto* store = WeightStoreObject::Unwrap(info[1].As<Napi::Object>());
  config.store = store->store(env);
  config.experts = store->experts();
  config.threads = info[2].As<Napi::Number>().Int32Value();
  const Napi::Array names = info[3].As<Napi::Array>(), handles = info[4].As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); i++) {
    config.bound_inputs.push_back(
        {names.Get(i).ToString().Utf8Value(), handles.Get(i).ToNumber().Int64Value()});
  }
  if (info[5].IsObject()) {
    config.device = DeviceObject::Unwrap(info[5].As<Napi::Object>())->device(env);
    config.device_store = UnwrapDeviceStore(info[6]);
  }
  return Environment::Of(env).Start(
      std::make_unique<OpenJob>(env, info[0].As<Napi::Uint8Array>(), std::move(config)));
}

Napi::Function SessionObject::Define(Napi::Env env) {
  return DefineClass(
      env, "Session",
      {InstanceAccessor<&SessionObject::JsThreads>("threads"),
       InstanceAccessor<&SessionObject::JsInputs>("inputs"),
       InstanceAccessor<&SessionObject::JsOutputs>("outputs"), InstanceMethod<&SessionObject::JsRun>("run"),
       InstanceMethod<&SessionObject::JsCapture>("capture"),
       InstanceMethod<&SessionObject::JsRoutedTokens>("routedTokens"),
       InstanceMethod<&SessionObject::JsDispose>("dispose")});
}

SessionObject::SessionObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SessionObject>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), "a Session is made by openSession()");
  }
  session_ = *info[0].As<Napi::External<std::shared_ptr<ops::Session>>>().Data();
}

const std::shared_ptr<ops::Session>& SessionObject::session(Napi::Env env) const {
  if (session_ == nullptr) throw Napi::Error::New(env, "the session is disposed");
  return session_;
}

Napi::Value SessionObject::JsThreads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), session(info.Env())->threads());
}

Napi::Value SessionObject::JsInputs(const Napi::CallbackInfo& info) {
  return Describe(info.Env(), session(info.Env())->inputs());
}

Napi::Value SessionObject::JsOutputs(const Napi::CallbackInfo& info) {
  return Describe(info.Env(), session(info.Env())->outputs());
}

Napi::Value SessionObject::JsRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsArray() || !info[1].IsArray() || !info[2].IsArray()) {
    throw Napi::TypeError::New(env, "run(feeds, outputs, fetches, id): wrong arguments");
  }
  auto job = std::make_unique<RunJob>(env, session(env), info[0].As<Napi::Array>(), info[1].As<Napi::Array>(),
                                      info[2].As<Napi::Array>());
  return Environment::Of(env).Start(std::move(job), info[3].IsNumber() ? info[3].ToNumber().Int64Value() : 0);
}

Napi::Value SessionObject::JsCapture(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Environment::Of(env).Start(std::make_unique<CaptureJob>(
      env, session(env), info[0].As<Napi::Array>(), info[1].As<Napi::Array>(), info[2].As<Napi::Array>()));
}

Napi::Value SessionObject::JsRoutedTokens(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array routers = Napi::Array::New(env);
  for (const RoutedTokens& router : session(env)->routing()) {
    Napi::Float64Array tokens = Napi::Float64Array::New(env, router.experts());
    Napi::Float64Array reads = Napi::Float64Array::New(env, router.experts());
    for (size_t e = 0; e < router.experts(); e++) {
      tokens[e] = static_cast<double>(router.tokens(e));
      reads[e] = static_cast<double>(router.reads(e));
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("layer", Napi::Number::New(env, static_cast<double>(router.layer())));
    object.Set("tokens", tokens);
    object.Set("reads", reads);
    routers[routers.Length()] = object;
  }
  return routers;
}

Napi::Value SessionObject::JsDispose(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (session_ == nullptr) throw Napi::Error::New(env, "the session is disposed");
  return Environment::Of(env).Start(std::make_unique<DisposeJob>(env, std::move(session_)));
}

}  // namespace switchyard::binding
