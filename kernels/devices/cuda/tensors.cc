#include "tensors.h"

#include "coded_contents.h"

namespace switchyard::ops {
namespace {

Contents ContentsOf(const WeightRef& ref, WeightForm form, DType dtype) {
  const StoredTensor& source = *ref.values;
  if (form == WeightForm::kCodes) return CodedContents(ref);
  if (source.quantized != nullptr) return ExpandedContents(ref, dtype);
  return PlainContents(source, 0, static_cast<int64_t>(source.bytes) / DTypeSize(ref.dtype()), dtype);
}

}  // namespace

const void* DeviceWeight::Data(DType dtype) const {
  if (tensor == nullptr) return nullptr;
  if (is_quantized()) return tensor->data;
  return static_cast<const std::byte*>(tensor->data) + ref.First() * DTypeSize(dtype);
}

DeviceTensors::Key DeviceTensors::KeyOf(const WeightRef& ref, WeightForm form) {
  const StoredTensor& source = *ref.values;
  if (source.quantized == nullptr) return {source.data, source.bytes, nullptr, {}, form};
  return {source.quantized->codes,
          source.bytes,
          source.quantized->scales,
          {ref.first_row, ref.first_col, ref.rows, ref.cols},
          form};
}

DeviceWeight DeviceTensors::Require(const WeightRef& ref, WeightForm form) {
  if (ref.empty()) return {nullptr, ref};
  if (!CanKeepCodes(ref)) form = WeightForm::kElements;
  std::lock_guard<std::mutex> lock(mutex_);
  const Key key = KeyOf(ref, form);
  auto found = tensors_.find(key);
  if (found == tensors_.end()) {
    auto tensor =
        std::make_unique<DeviceTensor>(DeviceTensor{ref.values, ContentsOf(ref, form, dtype_), nullptr});
    found = tensors_.emplace(key, std::move(tensor)).first;
  }
  return {found->second.get(), ref, form};
}

std::vector<DeviceTensor*> DeviceTensors::Pending() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<DeviceTensor*> tensors;
  for (auto& [place, tensor] : tensors_) {
    if (tensor->data == nullptr) tensors.push_back(tensor.get());
  }
  return tensors;
}

int64_t BytesOf(const std::vector<DeviceTensor*>& tensors) {
  int64_t bytes = 0;
  for (const DeviceTensor* tensor : tensors) bytes += tensor->contents.bytes;
  return bytes;
}

}  // namespace switchyard::ops
