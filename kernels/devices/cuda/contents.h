// What a stretch of a GPU's memory is to hold, and where that comes from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../../common/types.h"
#include "../../weights/weight_store.h"

namespace switchyard::ops {

// Items that lie side by side on the GPU, such as elements of a stored tensor.
class Source {
 public:
  virtual ~Source() = default;
  // Writes `count` items from `first` on, item_bytes each. Any thread may call.
  virtual void Read(int64_t first, int64_t count, std::byte* to) const = 0;

  int64_t count() const { return count_; }
  int64_t item_bytes() const { return item_bytes_; }
  // Elements of `type` in an item, which become elements of the session's type on the way; 0: items are bytes
  // that stay as they are.
  int64_t elements() const { return elements_; }
  DType type() const { return type_; }
  // Bytes of an item on the GPU, in a session of this element type.
  int64_t DeviceBytes(DType dtype) const;

 protected:
  Source(int64_t count, int64_t item_bytes) : count_(count), item_bytes_(item_bytes) {}
  Source(int64_t count, int64_t elements, DType type);

 private:
  int64_t count_, item_bytes_, elements_ = 0;
  DType type_ = DType::kFloat32;
};

struct Contents {
  struct Part {
    std::shared_ptr<const Source> source;
    int64_t offset;  // bytes from the start
  };
  std::vector<Part> parts;
  int64_t bytes = 0;  // on the GPU, a multiple of what kernels want of addresses

  // Puts more behind these, and says where they begin.
  int64_t Append(const Contents& more);
};

// Bytes as they are laid out on a GPU: up to the next multiple of an alignment that suits every kernel.
int64_t Aligned(int64_t bytes);

// `count` elements of a plain tensor from `first` on, in the session's element type.
Contents PlainContents(const StoredTensor& tensor, int64_t first, int64_t count, DType dtype);

}  // namespace switchyard::ops
