// Brings tensors from mapped files to a GPU: file → page-locked buffer → GPU, where other element types are
// converted.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>

#include "device.h"

namespace switchyard::ops {

// Elements that lie side by side in a file, and where on the GPU they belong.
struct Transfer {
  const std::byte* from = nullptr;
  DType from_type = DType::kFloat32;
  int64_t count = 0;
  void* to = nullptr;
};

// For one thread at a time. Two buffers take turns: one is filled while the other is under way.
class Stager {
 public:
  // On the device's own stream, or, for uploads that overlap, on one of the stager's own.
  enum class Stream { kDevice, kOwn };
  Stager(CudaDevice& device, DType to_type, Stream stream);
  ~Stager();
  Stager(const Stager&) = delete;
  Stager& operator=(const Stager&) = delete;

  // Enqueues; what the file holds has been read when this returns.
  void Bring(const Transfer& transfer);
  void Wait();

 private:
  struct Buffer {
    void* host = nullptr;
    void* device = nullptr;  // source of a conversion; made when first needed
    cudaEvent_t sent = nullptr;
  };
  void BringChunk(const Transfer& chunk);
  void Release();

  CudaDevice& device_;
  DType to_type_;
  bool owns_stream_;
  cudaStream_t stream_ = nullptr;
  Buffer buffers_[2];
  int turn_ = 0;
};

}  // namespace switchyard::ops
