// A GPU: its memory, its one stream, scratch for the ops.
#pragma once
#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <vector>

#include "../../cuda/kernels.h"
#include "../../engine/device.h"

namespace switchyard::ops {

// What the device reports, in words.
std::string CudaErrorText(cudaError_t status);

// Throws std::runtime_error for a failed call: what was tried, and what the device reports.
void CheckCuda(cudaError_t status, const std::string& what);

// "12.3 GB"
std::string Gigabytes(int64_t bytes);

std::vector<DeviceInfo> ListCudaDevices();

class CudaDevice final : public Device, public std::enable_shared_from_this<CudaDevice> {
 public:
  explicit CudaDevice(int index);
  ~CudaDevice() override;

  DeviceInfo info() const override;
  int index() const override { return index_; }
  const char* provider() const override;
  const char* memory_name() const override;
  void* stream() const override { return stream_; }
  std::mutex& run_mutex() override { return run_mutex_; }
  std::shared_ptr<DeviceStore> OpenStore(std::shared_ptr<const WeightStore> store, DType dtype,
                                         StoreLimits limits) override;
  std::unique_ptr<DeviceOps> MakeOps(std::shared_ptr<DeviceStore> store, ExpertsCounter& calls) override;
  void* Allocate(size_t bytes, const std::string& purpose) override;
  void Free(void* memory) override;
  void Clear(void* memory, size_t bytes) override;
  void CopyToDevice(void* to, const void* from, size_t bytes) override;
  void CopyToHost(void* to, const void* from, size_t bytes) override;
  void Copy(void* to, const void* from, size_t bytes) override;
  void Wait() override;
  std::unique_ptr<CapturedRun> Capture(const std::function<void()>& run) override;
  double MeasureCopyRate() override;

  // Makes this thread's CUDA calls go to this device.
  void Enter() const;
  cudaStream_t cuda_stream() const { return stream_; }
  cuda::GemmContext& gemm() const { return *gemm_; }
  // At least `bytes` of memory for one op's call, which the next call of any op overwrites. The caller holds
  // run_mutex. Grows outside of captures only.
  void* Scratch(size_t bytes);
  // What attention counts with, on this device's stream.
  uint32_t* attention_counters() const { return counters_; }
  bool capturing() const { return capturing_; }
  // Gives back the memory that was freed since the last allocation.
  void FreeUnused();
  // A captured run holds on to the scratch memory it was recorded with.
  void NoteCapture(int change);

 private:
  void TryKernel();

  int index_;
  cudaStream_t stream_ = nullptr;
  cuda::GemmContext* gemm_ = nullptr;
  std::mutex run_mutex_;
  bool capturing_ = false;
  std::mutex unused_mutex_;
  std::vector<void*> unused_;
  std::mutex scratch_mutex_;
  void* scratch_ = nullptr;
  uint32_t* counters_ = nullptr;
  size_t scratch_bytes_ = 0;
  int captures_ = 0;
  std::vector<void*> retired_scratch_;  // still named by captured runs
};

// Consecutive 256-byte aligned pieces of a device's scratch memory: ask for all, then take them.
class ScratchPieces {
 public:
  // Index of the piece.
  size_t Add(size_t bytes) {
    offsets_.push_back(total_);
    total_ += (bytes + 255) / 256 * 256;
    return offsets_.size() - 1;
  }
  void Allocate(CudaDevice& device) { base_ = static_cast<unsigned char*>(device.Scratch(total_)); }
  void* operator[](size_t piece) const { return base_ + offsets_[piece]; }

 private:
  std::vector<size_t> offsets_;
  size_t total_ = 0;
  unsigned char* base_ = nullptr;
};

}  // namespace switchyard::ops
