// The tensors of one checkpoint in mapped files, known by handle.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "../common/aligned_memory.h"
#include "../common/quantized.h"
#include "../common/row_panels.h"
#include "../common/shape_text.h"
#include "../common/types.h"
#include "mapped_file.h"

namespace switchyard {

// Where one tensor lies. `type` is an `onnx::ElementType`; 0 for a quantized one, whose parts
// are tensors of the store themselves.
struct StoredTensor {
  std::string name;
  const std::byte* data = nullptr;  // null: quantized
  size_t bytes = 0;                 // of all parts
  int32_t type = 0;
  std::vector<int64_t> shape;
  const MappedFile* file = nullptr;                            // of the data; of the codes
  std::shared_ptr<const QuantizedTensor> quantized = nullptr;  // null: plain
  std::vector<int64_t> parts = {};                             // handles, of a quantized one
  std::vector<int64_t> factors = {};  // handles, of what multiplies or divides its scales
  RowPanels* panels = nullptr;        // null: of no use to it
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

// What the caller says about one quantized tensor. Parts are indices into the entries; -1 means none.
struct QuantizedEntry {
  std::string name;
  std::vector<int64_t> shape;
  int64_t codes = -1, code_type = 0, bits = 0, order = 0, values = -1;
  int64_t scales = -1, scale_kind = 0, group_rows = 0, group_cols = 0, transposed = 0;
  int64_t multiplier = -1, divisor = -1;
  double multiply = 1.0, divide = 1.0;
  int64_t table_values = -1, table_scales = -1, table_group = 1;
  double table_offset = 0.0;
  int64_t zeros = -1, zero_order = 0, zeros_less_one = 0, zero = 0;
  int64_t biases = -1, column_groups = -1;
};

// A file that does not hold what it should. The message names file, tensor, expected and found sizes.
class WeightFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Immutable once open, but for copies of tensors in row panels, which come later. Shared by its JavaScript
// owner and by every kernel that reads from it; the files are unmapped when the last of them is gone.
class WeightStore {
 public:
  // Maps `files`. An empty file name stands for zeros. Handles count the entries, then the quantized ones.
  // Throws WeightFileError.
  static std::shared_ptr<const WeightStore> Open(const std::vector<std::string>& files,
                                                 std::vector<TensorEntry> entries,
                                                 std::vector<QuantizedEntry> quantized = {});
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  int64_t size() const { return static_cast<int64_t>(tensors_.size()); }
  // Throws std::runtime_error for a handle the store never gave out.
  const StoredTensor& Get(int64_t handle) const;
  // Throws WeightFileError where a file is not what it was when it was mapped. What was read from tensors
  // counts only if this does not throw afterwards.
  void CheckUnchanged() const;
  // Uninitialised memory for copies of tensors, in large pages where there are some, which lives as long as
  // the store. Throws OutOfMemory. Threads may call it at once.
  std::byte* TakeMemory(size_t bytes) const;

 private:
  WeightStore() = default;
  void Add(TensorEntry entry);
  void Add(QuantizedEntry entry);

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<StoredTensor> tensors_;
  std::unique_ptr<RowPanels[]> panels_;  // by handle, of plain tensors
  mutable std::mutex memory_mutex_;
  mutable std::vector<AlignedMemory> memory_;
};

}  // namespace switchyard
