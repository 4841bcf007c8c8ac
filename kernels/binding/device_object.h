// The JavaScript class Device, and what belongs to one: memory, weights, captured runs.
#pragma once
#include <napi.h>

#include <memory>
#include <utility>

#include "../engine/device.h"
#include "run_job.h"

namespace switchyard::binding {

// Memory of a device; freed with its last user.
struct DeviceMemory {
  std::shared_ptr<ops::Device> device;
  void* data;
  size_t bytes;

  DeviceMemory(std::shared_ptr<ops::Device> owner, void* memory, size_t size)
      : device(std::move(owner)), data(memory), bytes(size) {}
  ~DeviceMemory() { device->Free(data); }
};

// Made by openDevice() only. Memory, stores and captured runs are Externals. What JavaScript sees of it is
// NativeDevice in src/runtime/binding.ts; the methods are a table in device_object.cc.
class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit DeviceObject(const Napi::CallbackInfo& info);
  // Throws after dispose().
  const std::shared_ptr<ops::Device>& device(Napi::Env env) const;

 private:
  template <auto Body>
  Napi::Value Call(const Napi::CallbackInfo& info) {
    return Body(info, device(info.Env()));
  }
  // The same for bodies that may run after dispose().
  template <auto Body>
  Napi::Value CallAnyTime(const Napi::CallbackInfo& info) {
    return Body(info);
  }
  Napi::Value Dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<ops::Device> device_;
};

// The store in an External made by openStore.
std::shared_ptr<ops::DeviceStore> UnwrapDeviceStore(Napi::Value external);

// listDevices(library: string): Promise<info[]>
Napi::Value ListDevices(const Napi::CallbackInfo& info);
// deviceProvider(library: string): string | null, the provider of ONNX Runtime that its devices need
Napi::Value DeviceProvider(const Napi::CallbackInfo& info);
// openDevice(library: string, index: number): Promise<Device>
Napi::Value OpenDevice(const Napi::CallbackInfo& info);

}  // namespace switchyard::binding
