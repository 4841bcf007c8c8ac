#include "host_rows.h"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <type_traits>

#include "../../weights/widen.h"

namespace switchyard::ops {
namespace {

constexpr int64_t kLeastRows = 64;  // of a buffer

}  // namespace

HostRows::HostRows(CudaDevice& device, std::vector<WeightRef> parts)
    : device_(device), parts_(std::move(parts)) {}

HostRows::~HostRows() {
  // Nothing throws from here: the device may be gone already.
  cudaSetDevice(device_.index());
  cudaStreamSynchronize(device_.cuda_stream());
  for (const auto& buffer : buffers_) {
    if (buffer->ids != nullptr) cudaFreeHost(buffer->ids);
    if (buffer->values != nullptr) cudaFreeHost(buffer->values);
  }
}

void HostRows::Read(const int64_t* ids, int64_t count, float* out) {
  Call& call = CallOf(count);
  const Buffer& buffer = *call.buffer;
  const cudaStream_t stream = device_.cuda_stream();
  const auto value_bytes = static_cast<size_t>(count * parts_.front().cols) * sizeof(float);
  const char* what = "reading rows of a table on the host";
  CheckCuda(cudaMemcpyAsync(buffer.ids, ids, static_cast<size_t>(count) * sizeof(int64_t),
                            cudaMemcpyDeviceToHost, stream),
            what);
  CheckCuda(cudaLaunchHostFunc(stream, &HostRows::ReadOnHost, &call), what);
  CheckCuda(cudaMemcpyAsync(out, buffer.values, value_bytes, cudaMemcpyHostToDevice, stream), what);
}

// On a thread of the driver, which must not be called from here.
void CUDART_CB HostRows::ReadOnHost(void* argument) {
  const auto& [table, buffer, count] = *static_cast<const Call*>(argument);
  const std::vector<WeightRef>& parts = table->parts_;
  const int64_t rows = parts.front().rows;  // of all parts but the last
  for (int64_t i = 0; i < count; i++) {
    const int64_t id = buffer->ids[i];
    float* row = buffer->values + i * parts.front().cols;
    const auto part = static_cast<size_t>(std::max<int64_t>(id, 0) / rows);
    if (id >= 0 && part < parts.size() && id % rows < parts[part].rows) {
      WidenRow(parts[part], id % rows, row);
    } else {
      std::fill_n(row, parts.front().cols, 0.0f);
    }
  }
}

HostRows::Call& HostRows::CallOf(int64_t count) {
  const auto found = calls_.find(count);
  if (found != calls_.end()) return found->second;
  return calls_.emplace(count, Call{this, &BufferFor(count), count}).first->second;
}

const HostRows::Buffer& HostRows::BufferFor(int64_t rows) {
  // Those that are too small stay, as captured runs may name them; each is twice the one before at least.
  if (!buffers_.empty() && buffers_.back()->rows >= rows) return *buffers_.back();
  if (device_.capturing()) throw std::runtime_error("page-locked memory cannot grow during a capture");
  device_.Enter();
  auto buffer = std::make_unique<Buffer>();
  const auto most = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(rows, kLeastRows))));
  const auto allocate = [](auto*& memory, int64_t count) {
    void* allocated = nullptr;
    CheckCuda(cudaHostAlloc(&allocated, static_cast<size_t>(count) * sizeof(*memory), cudaHostAllocDefault),
              "allocating page-locked memory");
    memory = static_cast<std::remove_reference_t<decltype(memory)>>(allocated);
  };
  buffers_.push_back(std::move(buffer));
  allocate(buffers_.back()->ids, most);
  allocate(buffers_.back()->values, most * parts_.front().cols);
  buffers_.back()->rows = most;
  return *buffers_.back();
}

}  // namespace switchyard::ops
