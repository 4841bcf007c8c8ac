#include "tensors.h"

#include <stdexcept>

namespace switchyard::ops {

int64_t Aligned(int64_t bytes) {
  constexpr int64_t kAlignment = 256;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

const void* DeviceWeight::Data(DType dtype) const {
  if (tensor == nullptr) return nullptr;
  return static_cast<const std::byte*>(tensor->data) + ref.First() * DTypeSize(dtype);
}

DeviceWeight DeviceTensors::Require(const WeightRef& ref) {
  if (ref.empty()) return {nullptr, ref};
  const StoredTensor& source = *ref.values;
  if (source.quantized != nullptr)
    throw std::runtime_error("tensor '" + source.name + "' is quantized; a GPU reads plain weights only");
  std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<DeviceTensor>& tensor = tensors_[{source.data, source.bytes}];
  if (tensor == nullptr) {
    const int64_t elements = static_cast<int64_t>(source.bytes) / DTypeSize(ref.dtype());
    tensor = std::make_unique<DeviceTensor>(DeviceTensor{&source, elements, nullptr});
  }
  return {tensor.get(), ref};
}

std::vector<DeviceTensor*> DeviceTensors::Pending() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<DeviceTensor*> tensors;
  for (auto& [place, tensor] : tensors_) {
    if (tensor->data == nullptr) tensors.push_back(tensor.get());
  }
  return tensors;
}

int64_t DeviceTensors::BytesOf(const DeviceTensor& tensor) const {
  return Aligned(tensor.elements * DTypeSize(dtype_));
}

int64_t DeviceTensors::BytesOf(const std::vector<DeviceTensor*>& tensors) const {
  int64_t bytes = 0;
  for (const DeviceTensor* tensor : tensors) bytes += BytesOf(*tensor);
  return bytes;
}

}  // namespace switchyard::ops
