#include "stager.h"

#include <algorithm>
#include <stdexcept>

namespace switchyard::ops {
namespace {

// What is copied stays in the processor's caches until it is sent, and little memory is page-locked, which
// takes long.
constexpr int64_t kBufferBytes = 2 << 20;

}  // namespace

Stager::Stager(CudaDevice& device, DType to_type, Stream stream)
    : device_(device), to_type_(to_type), owns_stream_(stream == Stream::kOwn) {
  device.Enter();
  stream_ = device.cuda_stream();
  try {
    if (owns_stream_) {
      stream_ = nullptr;
      CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    }
    for (Buffer& buffer : buffers_) {
      CheckCuda(cudaHostAlloc(&buffer.host, kBufferBytes, cudaHostAllocDefault),
                "allocating page-locked memory");
      CheckCuda(cudaEventCreateWithFlags(&buffer.sent, cudaEventDisableTiming), "making an event");
    }
  } catch (...) {
    Release();
    throw;
  }
}

Stager::~Stager() {
  cudaSetDevice(device_.index());
  cudaStreamSynchronize(stream_);
  Release();
}

void Stager::Release() {
  for (Buffer& buffer : buffers_) {
    if (buffer.host != nullptr) cudaFreeHost(buffer.host);
    if (buffer.device != nullptr) cudaFree(buffer.device);
    if (buffer.sent != nullptr) cudaEventDestroy(buffer.sent);
  }
  if (owns_stream_ && stream_ != nullptr) cudaStreamDestroy(stream_);
}

void Stager::Bring(const Transfer& transfer) {
  device_.Enter();
  const Source& source = *transfer.source;
  const int64_t most = std::max<int64_t>(kBufferBytes / source.item_bytes(), 1);
  for (int64_t done = 0; done < transfer.count; done += most) {
    BringChunk({.source = &source,
                .first = transfer.first + done,
                .count = std::min(most, transfer.count - done),
                .to = transfer.to + done * source.DeviceBytes(to_type_)});
  }
}

void Stager::BringChunk(const Transfer& chunk) {
  const Source& source = *chunk.source;
  const int64_t bytes = chunk.count * source.item_bytes();
  if (bytes > kBufferBytes) {
    throw std::runtime_error("a row of weights has " + std::to_string(bytes) +
                             " bytes, more than are brought to a GPU at a time");
  }
  Buffer& buffer = buffers_[turn_];
  turn_ = 1 - turn_;
  CheckCuda(cudaEventSynchronize(buffer.sent), "uploading weights");
  source.Read(chunk.first, chunk.count, static_cast<std::byte*>(buffer.host));
  void* to = chunk.to;
  if (source.elements() > 0 && source.type() != to_type_) {
    if (buffer.device == nullptr) buffer.device = device_.Allocate(kBufferBytes, "weights on their way");
    to = buffer.device;
  }
  CheckCuda(cudaMemcpyAsync(to, buffer.host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
            "uploading weights");
  if (to != chunk.to) {
    CheckCuda(
        cuda::LaunchConvert(to, source.type(), chunk.to, to_type_, chunk.count * source.elements(), stream_),
        "converting weights");
  }
  CheckCuda(cudaEventRecord(buffer.sent, stream_), "uploading weights");
}

void Stager::Wait() {
  device_.Enter();
  CheckCuda(cudaStreamSynchronize(stream_), "uploading weights");
}

}  // namespace switchyard::ops
