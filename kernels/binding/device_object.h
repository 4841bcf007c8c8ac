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

// Made by openDevice() only. Memory, stores and captured runs are Externals. JavaScript sees
//   info(): { name, pciId, totalBytes, freeBytes, major, minor }
//   allocate(bytes, purpose): Promise<memory>    filled with zeros
//   free(memory)                                 memory that no tensor names any more
//   tensor(memory, offset, type, dims): External as wrapTensor makes it
//   write(memory, bytes: Uint8Array): Promise<void>
//   read(memory, offset, bytes): Promise<ArrayBuffer>
//   copyBlocks(from, to, blocks, fromBytes, toBytes): Promise<void>
//   openStore(store: WeightStore, dtype, maxBytes): store
//   upload(store, onProgress(done, total), id): Promise<number>    total bytes; cancelRun(id) ends it
//   closeStore(store): Promise<void>    frees the weights once no session uses them
//   storeStatus(store): { residentBytes, hits, fetches, fetchedBytes }
//   replay(captured, inputs: memory, bytes: Uint8Array, outputs: memory[], sizes: number[]):
//     Promise<ArrayBuffer[]>    writes the inputs, runs, reads the outputs
//   release(captured): Promise<void>
//   copyRate(): Promise<number>    bytes a second
//   dispose(): Promise<void>    gives the device up once nothing uses it any more
class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit DeviceObject(const Napi::CallbackInfo& info);
  // Throws after dispose().
  const std::shared_ptr<ops::Device>& device(Napi::Env env) const;

 private:
  Napi::Value JsInfo(const Napi::CallbackInfo& info);
  Napi::Value JsAllocate(const Napi::CallbackInfo& info);
  void JsFree(const Napi::CallbackInfo& info);
  Napi::Value JsTensor(const Napi::CallbackInfo& info);
  Napi::Value JsWrite(const Napi::CallbackInfo& info);
  Napi::Value JsRead(const Napi::CallbackInfo& info);
  Napi::Value JsCopyBlocks(const Napi::CallbackInfo& info);
  Napi::Value JsOpenStore(const Napi::CallbackInfo& info);
  Napi::Value JsCloseStore(const Napi::CallbackInfo& info);
  Napi::Value JsUpload(const Napi::CallbackInfo& info);
  Napi::Value JsStoreStatus(const Napi::CallbackInfo& info);
  Napi::Value JsReplay(const Napi::CallbackInfo& info);
  Napi::Value JsRelease(const Napi::CallbackInfo& info);
  Napi::Value JsCopyRate(const Napi::CallbackInfo& info);
  Napi::Value JsDispose(const Napi::CallbackInfo& info);

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
