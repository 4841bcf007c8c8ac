// The tensors of one checkpoint in mapped files, known by handle.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../common/shape_text.h"
#include "../common/types.h"
#include "mapped_file.h"

namespace switchyard {

// Where one tensor lies. `type` is an ONNX TensorProto.DataType number.
struct StoredTensor {
  std::string name;
  const std::byte* data = nullptr;
  size_t bytes = 0;
  int32_t type = 0;
  std::vector<int64_t> shape;
};

// What the caller says about one tensor before it is checked against its file.
struct TensorEntry {
  std::string name;
  uint32_t file = 0;  // index into the store's files
  uint64_t offset = 0;
  uint64_t bytes = 0;
  int32_t type = 0;
  std::vector<int64_t> shape;
};

// A file that does not hold what it should. The message names file, tensor, expected and found sizes.
class WeightFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Immutable once open. Shared by its JavaScript owner and by every kernel that reads from it; the files are
// unmapped when the last of them is gone.
class WeightStore {
 public:
  // Maps `files`. An empty file name stands for zeros. Throws WeightFileError.
  static std::shared_ptr<const WeightStore> Open(const std::vector<std::string>& files,
                                                 std::vector<TensorEntry> entries);
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  int64_t size() const { return static_cast<int64_t>(tensors_.size()); }
  // Throws std::runtime_error for a handle the store never gave out.
  const StoredTensor& Get(int64_t handle) const;
  // Throws WeightFileError where a file is not what it was when it was mapped. What was read from tensors
  // counts only if this does not throw afterwards.
  void CheckUnchanged() const;

 private:
  WeightStore() = default;
  void Add(TensorEntry entry);

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace switchyard
