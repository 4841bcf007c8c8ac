#include "device.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "ops/ops_cuda.h"
#include "platform.h"
#include "store.h"

namespace switchyard::ops {
namespace {

DeviceInfo Describe(int index) {
  DeviceInfo info;
  cudaDeviceProp properties = {};
  CheckCuda(cudaGetDeviceProperties(&properties, index), "asking for the GPU's properties");
  info.name = properties.name;
  char pci[32];
  std::snprintf(pci, sizeof(pci), "%04x:%02x:%02x.0", static_cast<unsigned>(properties.pciDomainID),
                static_cast<unsigned>(properties.pciBusID), static_cast<unsigned>(properties.pciDeviceID));
  info.pci_id = pci;
  info.major = properties.major;
  info.minor = properties.minor;
  size_t free = 0, total = 0;
  CheckCuda(cudaSetDevice(index), "selecting the GPU");
  CheckCuda(cudaMemGetInfo(&free, &total), "asking for the GPU's memory");
  info.free_bytes = static_cast<int64_t>(free);
  info.total_bytes = static_cast<int64_t>(total);
  return info;
}

// A captured run that a device counts among its live ones.
class CountedRun final : public CapturedRun {
 public:
  CountedRun(std::shared_ptr<CudaDevice> device, std::unique_ptr<CapturedRun> run)
      : device_(std::move(device)), run_(std::move(run)) {
    device_->NoteCapture(1);
  }
  ~CountedRun() override {
    std::lock_guard<std::mutex> lock(device_->run_mutex());
    // It may still be running; whether it fails is for whoever waits for its results.
    cudaSetDevice(device_->index());
    cudaStreamSynchronize(device_->cuda_stream());
    run_ = nullptr;
    device_->NoteCapture(-1);
  }
  void Launch() override {
    device_->Enter();
    run_->Launch();
  }

 private:
  std::shared_ptr<CudaDevice> device_;
  std::unique_ptr<CapturedRun> run_;
};

}  // namespace

std::string CudaErrorText(cudaError_t status) {
  std::string text = cudaGetErrorString(status);
  if (status == cudaErrorNoKernelImageForDevice)
    text +=
        "; build the kernels for its compute capability, such as 8.9: npx moe-switchyard build --cuda --arch "
        "89";
  return text;
}

void CheckCuda(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the error is reported here, not by the next call as well
  throw std::runtime_error("the GPU reports an error while " + what + ": " + CudaErrorText(status));
}

std::string Gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), bytes < 100'000'000 ? "%.4g MB" : "%.4g GB",
                static_cast<double>(bytes) / (bytes < 100'000'000 ? 1e6 : 1e9));
  return text;
}

std::vector<DeviceInfo> ListCudaDevices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice) return {};
  CheckCuda(status, "looking for GPUs");
  std::vector<DeviceInfo> devices;
  for (int index = 0; index < count; index++) devices.push_back(Describe(index));
  return devices;
}

CudaDevice::CudaDevice(int index) : index_(index) {
  Enter();
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  try {
    CheckCuda(cuda::CreateGemmContext(&gemm_), "preparing matrix products");
    TryKernel();
    constexpr size_t kBytes = cuda::kAttentionCounters * sizeof(uint32_t);
    counters_ = static_cast<uint32_t*>(Allocate(kBytes, "counters"));
    CheckCuda(cudaMemsetAsync(counters_, 0, kBytes, stream_), "clearing counters");
  } catch (...) {
    cudaFree(counters_);
    if (gemm_ != nullptr) cuda::DestroyGemmContext(gemm_);
    cudaStreamDestroy(stream_);
    throw;
  }
}

// A library built for other GPUs is found out here, not in the middle of a model.
void CudaDevice::TryKernel() {
  void* memory = Allocate(sizeof(float), "a test");
  const cudaError_t status =
      cuda::LaunchConvert(memory, DType::kFloat32, memory, DType::kFloat32, 1, stream_);
  cudaFree(memory);
  CheckCuda(status, "trying a kernel");
}

CudaDevice::~CudaDevice() {
  cudaSetDevice(index_);
  cudaStreamSynchronize(stream_);
  for (void* memory : unused_) cudaFree(memory);
  for (void* memory : retired_scratch_) cudaFree(memory);
  cudaFree(scratch_);
  cudaFree(counters_);
  cuda::DestroyGemmContext(gemm_);
  cudaStreamDestroy(stream_);
}

DeviceInfo CudaDevice::info() const { return Describe(index_); }
const char* CudaDevice::provider() const { return ProviderName(); }
const char* CudaDevice::memory_name() const { return MemoryName(); }

void CudaDevice::Enter() const {
  CheckCuda(cudaSetDevice(index_), "selecting GPU " + std::to_string(index_));
}

std::shared_ptr<DeviceStore> CudaDevice::OpenStore(std::shared_ptr<const WeightStore> store, DType dtype,
                                                   StoreLimits limits) {
  return std::make_shared<CudaStore>(shared_from_this(), std::move(store), dtype, std::move(limits));
}

std::unique_ptr<DeviceOps> CudaDevice::MakeOps(std::shared_ptr<DeviceStore> store, ExpertsCounter& calls) {
  return MakeCudaOps(shared_from_this(), std::static_pointer_cast<CudaStore>(std::move(store)), calls);
}

void* CudaDevice::Allocate(size_t bytes, const std::string& purpose) {
  FreeUnused();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<size_t>(bytes, 1));
  if (status == cudaSuccess) return memory;
  cudaGetLastError();
  size_t free = 0, total = 0;
  if (status != cudaErrorMemoryAllocation || cudaMemGetInfo(&free, &total) != cudaSuccess)
    CheckCuda(status, "allocating memory for " + purpose);
  throw std::runtime_error(
      "the GPU has no room for " + purpose + ": " + Gigabytes(static_cast<int64_t>(bytes)) + " are needed, " +
      Gigabytes(static_cast<int64_t>(free)) + " of " + Gigabytes(static_cast<int64_t>(total)) + " are free");
}

// Freeing waits for the GPU, so it is left to the next allocation.
void CudaDevice::Free(void* memory) {
  std::lock_guard<std::mutex> lock(unused_mutex_);
  unused_.push_back(memory);
}

void CudaDevice::FreeUnused() {
  Enter();
  std::lock_guard<std::mutex> lock(unused_mutex_);
  while (!unused_.empty()) {
    void* memory = unused_.back();
    unused_.pop_back();
    CheckCuda(cudaFree(memory), "freeing memory");
  }
}

void CudaDevice::Clear(void* memory, size_t bytes) {
  Enter();
  CheckCuda(cudaMemsetAsync(memory, 0, bytes, stream_), "clearing memory");
}

void CudaDevice::CopyToDevice(void* to, const void* from, size_t bytes) {
  Enter();
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the GPU");
}

void CudaDevice::CopyToHost(void* to, const void* from, size_t bytes) {
  Enter();
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the GPU");
  Wait();
}

void CudaDevice::Copy(void* to, const void* from, size_t bytes) {
  Enter();
  CheckCuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying a cache");
}

void CudaDevice::Wait() {
  Enter();
  CheckCuda(cudaStreamSynchronize(stream_), "waiting for the GPU");
}

std::unique_ptr<CapturedRun> CudaDevice::Capture(const std::function<void()>& run) {
  Enter();
  capturing_ = true;
  std::unique_ptr<CapturedRun> captured;
  try {
    captured = CaptureOnStream(stream_, run);
  } catch (...) {
    capturing_ = false;
    throw;
  }
  capturing_ = false;
  return std::make_unique<CountedRun>(shared_from_this(), std::move(captured));
}

void* CudaDevice::Scratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  if (capturing_) throw std::runtime_error("scratch memory cannot grow during a capture");
  std::lock_guard<std::mutex> lock(scratch_mutex_);
  if (captures_ > 0) {
    retired_scratch_.push_back(scratch_);
  } else if (scratch_ != nullptr) {
    Wait();
    CheckCuda(cudaFree(scratch_), "freeing memory");
  }
  scratch_ = nullptr;
  const size_t wanted = std::max(bytes, scratch_bytes_ + scratch_bytes_ / 2);
  scratch_bytes_ = 0;
  scratch_ = Allocate(wanted, "intermediate results");
  scratch_bytes_ = wanted;
  return scratch_;
}

void CudaDevice::NoteCapture(int change) {
  std::lock_guard<std::mutex> lock(scratch_mutex_);
  captures_ += change;
  if (captures_ > 0) return;
  for (void* memory : retired_scratch_) Free(memory);
  retired_scratch_.clear();
}

double CudaDevice::MeasureCopyRate() {
  constexpr size_t kBytes = 256 << 20;
  constexpr int kCopies = 10;
  std::lock_guard<std::mutex> lock(run_mutex_);
  auto release = [](void* memory) { cudaFree(memory); };
  using Memory = std::unique_ptr<void, decltype(release)>;
  Memory from(Allocate(kBytes, "a measurement"), release), to(Allocate(kBytes, "a measurement"), release);
  cudaEvent_t start = nullptr, end = nullptr;
  CheckCuda(cudaEventCreate(&start), "making an event");
  CheckCuda(cudaEventCreate(&end), "making an event");
  for (int i = -1; i < kCopies; i++) {
    if (i == 0) cudaEventRecord(start, stream_);  // after one copy to warm up
    cudaMemcpyAsync(to.get(), from.get(), kBytes, cudaMemcpyDeviceToDevice, stream_);
  }
  cudaEventRecord(end, stream_);
  const cudaError_t status = cudaEventSynchronize(end);
  float milliseconds = 0;
  cudaEventElapsedTime(&milliseconds, start, end);
  cudaEventDestroy(start);
  cudaEventDestroy(end);
  CheckCuda(status, "measuring its memory");
  return 2.0 * kBytes * kCopies / (static_cast<double>(milliseconds) * 1e-3);
}

}  // namespace switchyard::ops
