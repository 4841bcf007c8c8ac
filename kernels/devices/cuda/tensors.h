// Which weights stay on a GPU.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "../../weights/weight_ref.h"
#include "contents.h"

namespace switchyard::ops {

// How a weight lies there: as elements of the session's type, or as a cuda::CodedMatrix.
enum class WeightForm { kElements, kCodes };

// What stays on the GPU: a plain tensor, or a matrix of a quantized one. Has an address once it was uploaded.
struct DeviceTensor {
  const StoredTensor* source = nullptr;
  Contents contents;
  void* data = nullptr;
};

// A weight of an op there.
struct DeviceWeight {
  const DeviceTensor* tensor = nullptr;  // null where `ref` is empty
  WeightRef ref;
  WeightForm form = WeightForm::kElements;

  bool coded() const { return form == WeightForm::kCodes; }
  // Of elements of a quantized matrix, which come in rows of outputs, or of a plain tensor, as it is stored.
  int64_t stride() const { return is_quantized() ? ref.cols : ref.stride; }
  bool transposed() const { return !is_quantized() && ref.transposed; }
  // Its address: of its elements, which are of type `dtype`, or of its codes.
  const void* Data(DType dtype) const;

 private:
  bool is_quantized() const { return tensor != nullptr && ref.values->quantized != nullptr; }
};

// Any thread may call; whoever holds the lock waits for nothing else, since a session that opens wants it
// while it holds the device's run_mutex.
class DeviceTensors {
 public:
  explicit DeviceTensors(DType dtype) : dtype_(dtype) {}

  // While a session opens: what an op will need, which arrives with the next upload. Handles that name the
  // same bytes share a tensor. Quantized matrices keep their codes where `form` allows it and they can
  // (coded_contents.h).
  DeviceWeight Require(const WeightRef& ref, WeightForm form = WeightForm::kElements);
  // Tensors that are yet to come, in the order of the files.
  std::vector<DeviceTensor*> Pending();

 private:
  // Bytes of a plain tensor; or codes, and which part of them in which form.
  using Key = std::tuple<const std::byte*, size_t, const std::byte*, std::array<int64_t, 4>, WeightForm>;
  static Key KeyOf(const WeightRef& ref, WeightForm form);

  DType dtype_;
  std::mutex mutex_;  // of tensors_
  std::map<Key, std::unique_ptr<DeviceTensor>> tensors_;
};

// Bytes on the GPU.
int64_t BytesOf(const std::vector<DeviceTensor*>& tensors);

}  // namespace switchyard::ops
