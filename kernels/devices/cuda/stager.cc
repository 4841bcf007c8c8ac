#include "stager.h"

#include <algorithm>
#include <cstring>

#include "../../common/float_types.h"

namespace switchyard::ops {
namespace {

constexpr int64_t kChunkElements = 4 << 20;

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
      CheckCuda(cudaHostAlloc(&buffer.host, kChunkElements * sizeof(float), cudaHostAllocDefault),
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
  const int64_t from_size = DTypeSize(transfer.from_type), to_size = DTypeSize(to_type_);
  for (int64_t first = 0; first < transfer.count; first += kChunkElements) {
    BringChunk({.from = transfer.from + first * from_size,
                .from_type = transfer.from_type,
                .count = std::min(kChunkElements, transfer.count - first),
                .to = static_cast<std::byte*>(transfer.to) + first * to_size});
  }
}

void Stager::BringChunk(const Transfer& chunk) {
  Buffer& buffer = buffers_[turn_];
  turn_ = 1 - turn_;
  CheckCuda(cudaEventSynchronize(buffer.sent), "uploading weights");
  const auto bytes = static_cast<size_t>(chunk.count * DTypeSize(chunk.from_type));
  std::memcpy(buffer.host, chunk.from, bytes);
  void* to = chunk.to;
  if (chunk.from_type != to_type_) {
    if (buffer.device == nullptr)
      buffer.device = device_.Allocate(kChunkElements * sizeof(float), "weights on their way");
    to = buffer.device;
  }
  CheckCuda(cudaMemcpyAsync(to, buffer.host, bytes, cudaMemcpyHostToDevice, stream_), "uploading weights");
  if (to != chunk.to) {
    CheckCuda(cuda::LaunchConvert(to, chunk.from_type, chunk.to, to_type_, chunk.count, stream_),
              "converting weights");
  }
  CheckCuda(cudaEventRecord(buffer.sent, stream_), "uploading weights");
}

void Stager::Wait() {
  device_.Enter();
  CheckCuda(cudaStreamSynchronize(stream_), "uploading weights");
}

}  // namespace switchyard::ops
