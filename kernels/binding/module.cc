// What the addon exports. The classes and functions are described where they are defined.
#include <napi.h>

#include "../ort/library.h"
#include "../platform/library_file.h"
#include "device_object.h"
#include "environment.h"
#include "job_threads.h"
#include "machine.h"
#include "session_object.h"
#include "tensor.h"
#include "weight_store_object.h"

namespace switchyard::binding {
namespace {

// openEngine(path: string): string. Opens libonnxruntime, once a process; returns its version.
Napi::Value OpenEngine(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "openEngine(path): expected a string");
  ort::OpenLibrary(info[0].As<Napi::String>().Utf8Value());
  JobThreads::Instance();  // its exit handler must follow the library's
  return Napi::String::New(info.Env(), ort::LibraryVersion());
}

// cancelRun(id: number)
void CancelRun(const Napi::CallbackInfo& info) {
  Environment::Of(info.Env()).Cancel(info[0].ToNumber().Int64Value());
}

Napi::Object Define(Napi::Env env, Napi::Object exports) {
  // A worker that loaded the addon unloads it when it ends, but job threads and exit handlers still run its
  // code.
  platform::KeepLoaded(reinterpret_cast<void*>(&Define));
  Environment& environment = Environment::Create(env);
  environment.session_constructor = Napi::Persistent(SessionObject::Define(env));
  environment.device_constructor = Napi::Persistent(DeviceObject::Define(env));
  exports.Set("WeightStore", WeightStoreObject::Define(env));
  exports.Set("openEngine", Napi::Function::New<OpenEngine>(env, "openEngine"));
  exports.Set("openSession", Napi::Function::New<OpenSession>(env, "openSession"));
  exports.Set("listDevices", Napi::Function::New<ListDevices>(env, "listDevices"));
  exports.Set("deviceProvider", Napi::Function::New<DeviceProvider>(env, "deviceProvider"));
  exports.Set("openDevice", Napi::Function::New<OpenDevice>(env, "openDevice"));
  exports.Set("wrapTensor", Napi::Function::New<WrapTensor>(env, "wrapTensor"));
  exports.Set("cancelRun", Napi::Function::New<CancelRun>(env, "cancelRun"));
  exports.Set("cpuInfo", Napi::Function::New<CpuInfo>(env, "cpuInfo"));
  exports.Set("measureReadBandwidth", Napi::Function::New<MeasureReadBandwidth>(env, "measureReadBandwidth"));
  exports.Set("measureFlops", Napi::Function::New<MeasureFlops>(env, "measureFlops"));
  return exports;
}

NODE_API_MODULE(switchyard, Define)

}  // namespace
}  // namespace switchyard::binding
