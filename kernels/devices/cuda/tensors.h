// Which stored tensors stay on a GPU as they are.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "../../weights/weight_ref.h"

namespace switchyard::ops {

// A tensor that stays on the GPU; has an address once it was uploaded.
struct DeviceTensor {
  const StoredTensor* source = nullptr;
  int64_t elements = 0;
  void* data = nullptr;
};

// A weight of an op there.
struct DeviceWeight {
  const DeviceTensor* tensor = nullptr;  // null where `ref` is empty
  WeightRef ref;
  // Its address, where the tensor's elements are of type `dtype`.
  const void* Data(DType dtype) const;
};

// Bytes as they are laid out on a GPU: up to the next multiple of an alignment that suits every kernel.
int64_t Aligned(int64_t bytes);

// Any thread may call; whoever holds the lock waits for nothing else, since a session that opens wants it
// while it holds the device's run_mutex.
class DeviceTensors {
 public:
  explicit DeviceTensors(DType dtype) : dtype_(dtype) {}

  // While a session opens: what an op will need, which arrives with the next upload. Handles that name the
  // same bytes share a tensor.
  DeviceWeight Require(const WeightRef& ref);
  // Tensors that are yet to come, in the order of the files.
  std::vector<DeviceTensor*> Pending();
  int64_t BytesOf(const DeviceTensor& tensor) const;
  int64_t BytesOf(const std::vector<DeviceTensor*>& tensors) const;

 private:
  DType dtype_;
  std::mutex mutex_;  // of tensors_
  std::map<std::pair<const std::byte*, size_t>, std::unique_ptr<DeviceTensor>> tensors_;
};

}  // namespace switchyard::ops
