// A device that is not the CPU, as the addon sees it: a C++ interface that a shared library of its own
// implements, opened only when a device is asked for.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../common/experts_calls.h"
#include "../common/types.h"
#include "../ort/api.h"
#include "../weights/residency.h"
#include "../weights/weight_store.h"

namespace switchyard::ops {

// Raised with every change of what is declared here or of ort::Functions: addon and library are built apart.
constexpr int kDeviceAbi = 6;

struct DeviceInfo {
  std::string name;
  std::string pci_id;  // "0000:65:00.0"
  int64_t total_bytes = 0, free_bytes = 0;
  int major = 0, minor = 0;  // compute capability
};

// Bounds of the weights' memory, and what is to stay within them.
struct StoreLimits {
  int64_t max_bytes = 0;              // 0: no bound
  std::vector<ExpertId> pinned = {};  // the most wanted first; as many stay as there is room for
  int64_t max_pinned_bytes = 0;       // 0: half of the experts' room
};

// The weights of one store on a device, in one element type. Shared by all sessions of a model.
class DeviceStore {
 public:
  virtual ~DeviceStore() = default;
  // Before a session opens: these tensors are what it will need, so that the next Upload brings them
  // meanwhile. False where what comes there, or how, is decided by the session's ops only; nothing is noted
  // then.
  virtual bool Anticipate(const std::vector<int64_t>& handles) = 0;
  // Brings what the sessions opened since the last call need, and what was anticipated. `progress` hears the
  // bytes done and in total and ends the upload by returning false. Throws std::runtime_error naming tensor,
  // need and free memory.
  virtual void Upload(const std::function<bool(int64_t done, int64_t total)>& progress) = 0;
  virtual int64_t resident_bytes() const = 0;
  virtual ResidencyCounts counts() const = 0;
  // Whether runs read from the store's files at any time, so that what comes of them counts only if these are
  // unchanged afterwards. Experts that are brought are looked at by whoever brings them.
  virtual bool reads_files() const = 0;
};

// The ops of one session.
class DeviceOps {
 public:
  virtual ~DeviceOps() = default;
  virtual ort::OrtCustomOpDomain* domain() const = 0;
};

// A run that was recorded instead of executed.
class CapturedRun {
 public:
  virtual ~CapturedRun() = default;
  // Enqueues the run once more.
  virtual void Launch() = 0;
};

// Work is enqueued on one stream, so it executes in the order of the calls. Throws std::runtime_error for
// whatever the device reports.
class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceInfo info() const = 0;
  virtual int index() const = 0;
  // ONNX Runtime's name of the provider whose nodes share this device's memory, and of that memory; null
  // where that is the CPU.
  virtual const char* provider() const = 0;
  virtual const char* memory_name() const = 0;
  virtual void* stream() const = 0;
  // One run at a time enqueues.
  virtual std::mutex& run_mutex() = 0;

  virtual std::shared_ptr<DeviceStore> OpenStore(std::shared_ptr<const WeightStore> store, DType dtype,
                                                 StoreLimits limits) = 0;
  // The ops keep device and store alive; `calls`, which hears of every call of MoeExperts, must outlive them.
  virtual std::unique_ptr<DeviceOps> MakeOps(std::shared_ptr<DeviceStore> store, ExpertsCounter& calls) = 0;

  // Memory for `purpose`, which an error names.
  virtual void* Allocate(size_t bytes, const std::string& purpose) = 0;
  virtual void Free(void* memory) = 0;
  virtual void Clear(void* memory, size_t bytes) = 0;
  // To the device: enqueued, `from` may be reused at once. To the host: waits for all work before.
  virtual void CopyToDevice(void* to, const void* from, size_t bytes) = 0;
  virtual void CopyToHost(void* to, const void* from, size_t bytes) = 0;
  // Within the device: enqueued.
  virtual void Copy(void* to, const void* from, size_t bytes) = 0;
  virtual void Wait() = 0;

  // Records what `run` enqueues on the stream. Throws std::runtime_error where that cannot be recorded.
  virtual std::unique_ptr<CapturedRun> Capture(const std::function<void()>& run) = 0;

  // Bytes a second of copying within the device's memory, read and written bytes counted.
  virtual double MeasureCopyRate() = 0;
};

class DeviceLibrary {
 public:
  virtual ~DeviceLibrary() = default;
  // As Device::provider.
  virtual const char* provider() const = 0;
  // Throws std::runtime_error where there is no driver, in the driver's words.
  virtual std::vector<DeviceInfo> List() = 0;
  virtual std::shared_ptr<Device> Open(int index) = 0;
};

// The library's one symbol. Null when it was built for another interface; lives as long as the process.
using OpenDeviceLibrary = DeviceLibrary* (*)(int abi, size_t functions_size, const ort::Functions* functions);
constexpr const char* kOpenDeviceLibrary = "switchyard_open_device_library";

}  // namespace switchyard::ops
