// Brings weights from mapped files to a GPU: file → page-locked buffer → GPU, where other element types are
// converted.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>

#include "contents.h"
#include "device.h"

namespace switchyard::ops {

// Items of a source, and where on the GPU the first of them belongs.
struct Transfer {
  const Source* source = nullptr;
  int64_t first = 0, count = 0;
  std::byte* to = nullptr;
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

  // Enqueues; the source has been read when this returns.
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
