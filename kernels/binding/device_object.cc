#include "device_object.h"

#include <cstring>
#include <utility>
#include <vector>

#include "../engine/device_loader.h"
#include "function_job.h"
#include "residency_counts.h"
#include "shared_object.h"
#include "weight_store_object.h"

namespace switchyard::binding {
namespace {

using MemoryPtr = std::shared_ptr<DeviceMemory>;
using StorePtr = std::shared_ptr<ops::DeviceStore>;
using DevicePtr = std::shared_ptr<ops::Device>;
struct Nothing {};

const MemoryPtr& Memory(Napi::Value external) {
  const MemoryPtr& memory = Shared<DeviceMemory>(external);
  if (memory == nullptr) throw Napi::Error::New(external.Env(), "the device memory was freed");
  return memory;
}

void CheckRange(Napi::Env env, const DeviceMemory& memory, uint64_t offset, uint64_t bytes) {
  if (offset <= memory.bytes && bytes <= memory.bytes - offset) return;
  throw Napi::RangeError::New(env, std::to_string(bytes) + " bytes from byte " + std::to_string(offset) +
                                       " on do not lie in device memory of " + std::to_string(memory.bytes));
}

uint64_t Bytes(const Napi::CallbackInfo& info, size_t index) {
  const double value = info[index].IsNumber() ? info[index].ToNumber().DoubleValue() : -1;
  if (value < 0)
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + " must be a size");
  return static_cast<uint64_t>(value);
}

Napi::Object Describe(Napi::Env env, const ops::DeviceInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", info.name);
  object.Set("pciId", info.pci_id);
  object.Set("totalBytes", static_cast<double>(info.total_bytes));
  object.Set("freeBytes", static_cast<double>(info.free_bytes));
  object.Set("major", info.major);
  object.Set("minor", info.minor);
  return object;
}

// Tells JavaScript of an upload's progress from whatever thread.
class UploadJob final : public Job {
 public:
  UploadJob(Napi::Env env, StorePtr store, Napi::Function on_progress)
      : Job(env),
        store_(std::move(store)),
        on_progress_(Napi::ThreadSafeFunction::New(env, on_progress, "upload progress", 0, 1)) {}
  ~UploadJob() override { on_progress_.Release(); }

 private:
  void Execute() override {
    store_->Upload([this](int64_t done, int64_t total) {
      total_ = total;
      on_progress_.NonBlockingCall([done, total](Napi::Env env, Napi::Function callback) {
        if (env == nullptr) return;
        callback.Call({Napi::Number::New(env, static_cast<double>(done)),
                       Napi::Number::New(env, static_cast<double>(total))});
      });
      return !cancelled();
    });
  }
  Napi::Value Result(Napi::Env env) override { return Napi::Number::New(env, static_cast<double>(total_)); }

  StorePtr store_;
  int64_t total_ = 0;
  Napi::ThreadSafeFunction on_progress_;
};

Napi::Value Undefined(Napi::Env env, Nothing&) { return env.Undefined(); }

Napi::ArrayBuffer ToBuffer(Napi::Env env, const std::vector<char>& bytes) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.Data(), bytes.data(), bytes.size());
  return buffer;
}

Napi::Value Info(const Napi::CallbackInfo& info, const DevicePtr& device) {
  return Describe(info.Env(), device->info());
}

Napi::Value Allocate(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const uint64_t bytes = Bytes(info, 0);
  return StartFunction<MemoryPtr>(
      info.Env(),
      [device, bytes, purpose = info[1].ToString().Utf8Value()] {
        std::lock_guard<std::mutex> lock(device->run_mutex());
        auto memory = std::make_shared<DeviceMemory>(device, device->Allocate(bytes, purpose), bytes);
        device->Clear(memory->data, bytes);
        return memory;
      },
      [](Napi::Env env, MemoryPtr& memory) { return Share(env, std::move(memory)); });
}

Napi::Value Free(const Napi::CallbackInfo& info) {
  Shared<DeviceMemory>(info[0]) = nullptr;
  return info.Env().Undefined();
}

Napi::Value Tensor(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const MemoryPtr& memory = Memory(info[0]);
  const uint64_t offset = Bytes(info, 1);
  const auto type = static_cast<ort::ElementType>(info[2].ToNumber().Int32Value());
  const std::vector<int64_t> shape = ReadShape(info[3].As<Napi::Array>());
  const uint64_t bytes = BytesOf(type, shape);
  CheckRange(info.Env(), *memory, offset, bytes);
  auto wrapped = std::make_unique<WrappedTensor>();
  wrapped->type = type;
  wrapped->on_device = true;
  wrapped->device_memory = memory;
  try {
    ort::OrtMemoryInfo* place = nullptr;
    if (device->memory_name() != nullptr) {
      ort::Check(ort::Api().CreateMemoryInfo(device->memory_name(), ort::kDeviceAllocator, device->index(),
                                             ort::kMemoryDefault, &place));
    }
    const ort::MemoryInfoPtr owned(place);
    wrapped->value = ort::WrapMemory(static_cast<char*>(memory->data) + offset, bytes, type, shape, place);
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
  return MakeExternal(info.Env(), std::move(wrapped));
}

Napi::Value Write(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const MemoryPtr& memory = Memory(info[0]);
  const uint64_t offset = Bytes(info, 1);
  const auto bytes = info[2].As<Napi::Uint8Array>();
  CheckRange(info.Env(), *memory, offset, bytes.ByteLength());
  return StartFunction<Nothing>(
      info.Env(),
      [device, memory, offset, copy = std::vector<char>(bytes.Data(), bytes.Data() + bytes.ByteLength())] {
        std::lock_guard<std::mutex> lock(device->run_mutex());
        device->CopyToDevice(static_cast<char*>(memory->data) + offset, copy.data(), copy.size());
        return Nothing();
      },
      Undefined);
}

Napi::Value Read(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const MemoryPtr& memory = Memory(info[0]);
  const uint64_t offset = Bytes(info, 1), bytes = Bytes(info, 2);
  CheckRange(info.Env(), *memory, offset, bytes);
  return StartFunction<std::vector<char>>(
      info.Env(),
      [device, memory, offset, bytes] {
        std::vector<char> copy(bytes);
        std::lock_guard<std::mutex> lock(device->run_mutex());
        device->CopyToHost(copy.data(), static_cast<char*>(memory->data) + offset, bytes);
        return copy;
      },
      [](Napi::Env env, std::vector<char>& copy) { return ToBuffer(env, copy); });
}

// A stretch of one memory that goes to another.
struct Stretch {
  MemoryPtr from, to;
  uint64_t from_offset, to_offset, bytes;
};

Napi::Value Copy(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const auto list = info[0].As<Napi::Array>();
  std::vector<Stretch> stretches;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const auto part = list.Get(i).As<Napi::Object>();
    const auto size = [&](const char* name) {
      return static_cast<uint64_t>(part.Get(name).ToNumber().Int64Value());
    };
    const Stretch stretch = {Memory(part.Get("from")), Memory(part.Get("to")), size("fromOffset"),
                             size("toOffset"), size("bytes")};
    CheckRange(info.Env(), *stretch.from, stretch.from_offset, stretch.bytes);
    CheckRange(info.Env(), *stretch.to, stretch.to_offset, stretch.bytes);
    stretches.push_back(stretch);
  }
  return StartFunction<Nothing>(
      info.Env(),
      [device, stretches = std::move(stretches)] {
        std::lock_guard<std::mutex> lock(device->run_mutex());
        for (const Stretch& stretch : stretches) {
          device->Copy(static_cast<char*>(stretch.to->data) + stretch.to_offset,
                       static_cast<const char*>(stretch.from->data) + stretch.from_offset, stretch.bytes);
        }
        return Nothing();
      },
      Undefined);
}

Napi::Value OpenStore(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const auto store = WeightStoreObject::Unwrap(info[0].As<Napi::Object>())->store(info.Env());
  const auto dtype = static_cast<DType>(info[1].ToNumber().Int32Value());
  ops::StoreLimits limits = {.max_bytes = static_cast<int64_t>(Bytes(info, 2)),
                             .max_pinned_bytes = static_cast<int64_t>(Bytes(info, 4))};
  const auto pinned = info[3].As<Napi::Int32Array>();
  for (size_t i = 0; i + 1 < pinned.ElementLength(); i += 2)
    limits.pinned.push_back({pinned[i], pinned[i + 1]});
  return Share(info.Env(), device->OpenStore(store, dtype, std::move(limits)));
}

// Off this thread, because freeing waits for the device.
Napi::Value CloseStore(const Napi::CallbackInfo& info) {
  const auto store = std::make_shared<StorePtr>(std::move(Shared<ops::DeviceStore>(info[0])));
  return StartFunction<Nothing>(
      info.Env(),
      [store] {
        *store = nullptr;
        return Nothing();
      },
      Undefined);
}

Napi::Value Anticipate(const Napi::CallbackInfo& info) {
  const auto handles = info[1].As<Napi::Int32Array>();
  try {
    return Napi::Boolean::New(info.Env(), UnwrapDeviceStore(info[0])->Anticipate(
                                              {handles.Data(), handles.Data() + handles.ElementLength()}));
  } catch (const std::runtime_error& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

Napi::Value Upload(const Napi::CallbackInfo& info) {
  return Environment::Of(info.Env())
      .Start(
          std::make_unique<UploadJob>(info.Env(), UnwrapDeviceStore(info[0]), info[1].As<Napi::Function>()),
          info[2].ToNumber().Int64Value());
}

Napi::Value StoreStatus(const Napi::CallbackInfo& info) {
  const StorePtr store = UnwrapDeviceStore(info[0]);
  return DescribeResidency(info.Env(), store->resident_bytes(), store->counts());
}

Napi::Value Replay(const Napi::CallbackInfo& info, const DevicePtr& device) {
  const std::shared_ptr<CapturedStep> captured = Shared<CapturedStep>(info[0]);
  if (captured == nullptr) throw Napi::Error::New(info.Env(), "the captured run was released");
  const MemoryPtr& inputs = Memory(info[1]);
  const auto bytes = info[2].As<Napi::Uint8Array>();
  CheckRange(info.Env(), *inputs, 0, bytes.ByteLength());
  std::vector<char> written(bytes.Data(), bytes.Data() + bytes.ByteLength());
  const auto outputs = info[3].As<Napi::Array>(), sizes = info[4].As<Napi::Array>();
  std::vector<std::pair<MemoryPtr, size_t>> reads;
  for (uint32_t i = 0; i < outputs.Length(); i++) {
    reads.emplace_back(Memory(outputs.Get(i)), sizes.Get(i).ToNumber().Int64Value());
    CheckRange(info.Env(), *reads.back().first, 0, reads.back().second);
  }
  using Results = std::vector<std::vector<char>>;
  return StartFunction<Results>(
      info.Env(),
      [device, captured, run = captured->run, inputs, written = std::move(written),
       reads = std::move(reads)] {
        Results results;
        std::lock_guard<std::mutex> lock(device->run_mutex());
        device->CopyToDevice(inputs->data, written.data(), written.size());
        run->Launch();
        for (const auto& [memory, size] : reads) {
          results.emplace_back(size);
          device->CopyToHost(results.back().data(), memory->data, size);
        }
        captured->session->CheckFiles();
        return results;
      },
      [](Napi::Env env, Results& results) {
        Napi::Array buffers = Napi::Array::New(env, results.size());
        for (uint32_t i = 0; i < results.size(); i++) buffers[i] = ToBuffer(env, results[i]);
        return buffers;
      });
}

// Off this thread, because it waits for the device.
Napi::Value Release(const Napi::CallbackInfo& info) {
  std::shared_ptr<CapturedStep>& shared = Shared<CapturedStep>(info[0]);
  struct Owned {
    std::shared_ptr<ops::CapturedRun> run;
    std::shared_ptr<const ops::Session> session;
  };
  const auto owned = std::make_shared<Owned>();
  // A replay under way asks the step for the session, so it keeps that.
  if (shared != nullptr) *owned = {std::move(shared->run), shared->session};
  shared = nullptr;
  return StartFunction<Nothing>(
      info.Env(),
      [owned] {
        owned->run = nullptr;
        owned->session = nullptr;
        return Nothing();
      },
      Undefined);
}

Napi::Value CopyRate(const Napi::CallbackInfo& info, const DevicePtr& device) {
  return StartFunction<double>(
      info.Env(), [device] { return device->MeasureCopyRate(); },
      [](Napi::Env env, double& rate) { return Napi::Number::New(env, rate); });
}

}  // namespace

Napi::Function DeviceObject::Define(Napi::Env env) {
  return DefineClass(
      env, "Device",
      {InstanceMethod<&DeviceObject::Call<Info>>("info"),
       InstanceMethod<&DeviceObject::Call<Allocate>>("allocate"),
       InstanceMethod<&DeviceObject::CallAnyTime<Free>>("free"),
       InstanceMethod<&DeviceObject::Call<Tensor>>("tensor"),
       InstanceMethod<&DeviceObject::Call<Write>>("write"), InstanceMethod<&DeviceObject::Call<Read>>("read"),
       InstanceMethod<&DeviceObject::Call<Copy>>("copy"),
       InstanceMethod<&DeviceObject::Call<OpenStore>>("openStore"),
       InstanceMethod<&DeviceObject::CallAnyTime<CloseStore>>("closeStore"),
       InstanceMethod<&DeviceObject::CallAnyTime<Anticipate>>("anticipate"),
       InstanceMethod<&DeviceObject::CallAnyTime<Upload>>("upload"),
       InstanceMethod<&DeviceObject::CallAnyTime<StoreStatus>>("storeStatus"),
       InstanceMethod<&DeviceObject::Call<Replay>>("replay"),
       InstanceMethod<&DeviceObject::CallAnyTime<Release>>("release"),
       InstanceMethod<&DeviceObject::Call<CopyRate>>("copyRate"),
       InstanceMethod<&DeviceObject::Dispose>("dispose")});
}

DeviceObject::DeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceObject>(info) {
  if (info.Length() != 1 || !info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "a Device is made by openDevice()");
  device_ = *info[0].As<Napi::External<DevicePtr>>().Data();
}

const DevicePtr& DeviceObject::device(Napi::Env env) const {
  if (device_ == nullptr) throw Napi::Error::New(env, "the device is disposed");
  return device_;
}

// Off this thread, because it waits for the device.
Napi::Value DeviceObject::Dispose(const Napi::CallbackInfo& info) {
  const auto owned = std::make_shared<DevicePtr>(std::move(device_));
  return StartFunction<Nothing>(
      info.Env(),
      [owned] {
        *owned = nullptr;
        return Nothing();
      },
      Undefined);
}

StorePtr UnwrapDeviceStore(Napi::Value external) {
  const StorePtr& store = Shared<ops::DeviceStore>(external);
  if (store == nullptr) throw Napi::Error::New(external.Env(), "the weights on the device were disposed of");
  return store;
}

Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  using Infos = std::vector<ops::DeviceInfo>;
  return StartFunction<Infos>(
      info.Env(), [path = info[0].ToString().Utf8Value()] { return ops::LoadDeviceLibrary(path).List(); },
      [](Napi::Env env, Infos& infos) {
        Napi::Array list = Napi::Array::New(env, infos.size());
        for (uint32_t i = 0; i < infos.size(); i++) list[i] = Describe(env, infos[i]);
        return list;
      });
}

Napi::Value DeviceProvider(const Napi::CallbackInfo& info) {
  try {
    const char* provider = ops::LoadDeviceLibrary(info[0].ToString().Utf8Value()).provider();
    return provider == nullptr ? info.Env().Null() : Napi::String::New(info.Env(), provider);
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

Napi::Value OpenDevice(const Napi::CallbackInfo& info) {
  return StartFunction<DevicePtr>(
      info.Env(),
      [path = info[0].ToString().Utf8Value(), index = info[1].ToNumber().Int32Value()] {
        return ops::LoadDeviceLibrary(path).Open(index);
      },
      [](Napi::Env env, DevicePtr& device) {
        return Environment::Of(env).device_constructor.New({Napi::External<DevicePtr>::New(env, &device)});
      });
}

}  // namespace switchyard::binding
