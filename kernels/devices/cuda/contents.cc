#include "contents.h"

#include <cstring>

#include "../../common/float_types.h"

namespace switchyard::ops {
namespace {

class Elements final : public Source {
 public:
  Elements(const std::byte* data, int64_t count, DType type) : Source(count, 1, type), data_(data) {}
  void Read(int64_t first, int64_t count, std::byte* to) const override {
    std::memcpy(to, data_ + first * item_bytes(), static_cast<size_t>(count * item_bytes()));
  }

 private:
  const std::byte* data_;
};

}  // namespace

Source::Source(int64_t count, int64_t elements, DType type)
    : count_(count), item_bytes_(elements * DTypeSize(type)), elements_(elements), type_(type) {}

int64_t Source::DeviceBytes(DType dtype) const {
  return elements_ > 0 ? elements_ * DTypeSize(dtype) : item_bytes_;
}

int64_t Contents::Append(const Contents& more) {
  const int64_t begin = bytes;
  for (const Part& part : more.parts) parts.push_back({part.source, begin + part.offset});
  bytes += more.bytes;
  return begin;
}

int64_t Aligned(int64_t bytes) {
  constexpr int64_t kAlignment = 256;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Contents PlainContents(const StoredTensor& tensor, int64_t first, int64_t count, DType dtype) {
  const auto type = static_cast<DType>(tensor.type);
  const std::byte* data = tensor.data + first * DTypeSize(type);
  return {{{std::make_shared<Elements>(data, count, type), 0}}, Aligned(count * DTypeSize(dtype))};
}

}  // namespace switchyard::ops
