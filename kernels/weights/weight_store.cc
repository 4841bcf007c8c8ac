#include "weight_store.h"

#include <algorithm>

#include "../platform/pages.h"
#include "quantized_parts.h"

namespace switchyard {
namespace {

// Bytes of the longest tensor that lies in no file.
size_t LongestZeros(const std::vector<std::string>& files, const std::vector<TensorEntry>& entries) {
  uint64_t longest = 1;
  for (const TensorEntry& entry : entries) {
    if (files.at(entry.file).empty()) longest = std::max(longest, entry.bytes);
  }
  return longest;
}

// Whether a tensor consists of whole panels.
bool FitsPanels(const TensorEntry& entry) {
  return entry.type == onnx::kBFloat16 && entry.shape.size() >= 2 &&
         entry.shape.end()[-2] % kPanelRows == 0 && entry.shape.back() % 2 == 0 && entry.bytes > 0;
}

}  // namespace

std::shared_ptr<const WeightStore> WeightStore::Open(const std::vector<std::string>& files,
                                                     std::vector<TensorEntry> entries,
                                                     std::vector<QuantizedEntry> quantized) {
  std::shared_ptr<WeightStore> store(new WeightStore);
  try {
    for (const std::string& file : files) {
      store->files_.push_back(file.empty() ? std::make_unique<MappedFile>(LongestZeros(files, entries))
                                           : std::make_unique<MappedFile>(file));
    }
  } catch (const std::runtime_error& error) {
    throw WeightFileError(error.what());
  }
  store->tensors_.reserve(entries.size() + quantized.size());
  store->panels_ = std::make_unique<RowPanels[]>(entries.size());
  for (TensorEntry& entry : entries) store->Add(std::move(entry));
  for (QuantizedEntry& entry : quantized) store->Add(std::move(entry));
  return store;
}

void WeightStore::Add(TensorEntry entry) {
  const MappedFile& file = *files_.at(entry.file);
  auto where = [&] { return file.path() + ": tensor '" + entry.name + "'"; };
  uint64_t expected = onnx::ElementSize(static_cast<onnx::ElementType>(entry.type));
  if (expected == 0) {
    throw WeightFileError(where() + " has an element type (" + std::to_string(entry.type) +
                          ") the engine cannot hold");
  }
  for (int64_t dim : entry.shape) {
    if (dim < 0 || __builtin_mul_overflow(expected, static_cast<uint64_t>(dim), &expected)) {
      throw WeightFileError(where() + " has an impossible shape " + ShapeText(entry.shape));
    }
  }
  if (expected != entry.bytes) {
    throw WeightFileError(where() + " of shape " + ShapeText(entry.shape) + " needs " +
                          std::to_string(expected) + " bytes, but its entry spans " +
                          std::to_string(entry.bytes));
  }
  if (entry.offset > file.size() || entry.bytes > file.size() - entry.offset) {
    throw WeightFileError(where() + " ends at byte " + std::to_string(entry.offset + entry.bytes) +
                          ", but the file has " + std::to_string(file.size()) +
                          " bytes; it is truncated: fetch it again");
  }
  RowPanels* panels = FitsPanels(entry) ? &panels_[tensors_.size()] : nullptr;
  tensors_.push_back({.name = std::move(entry.name),
                      .data = file.data() + entry.offset,
                      .bytes = entry.bytes,
                      .type = entry.type,
                      .shape = std::move(entry.shape),
                      .file = &file,
                      .panels = panels});
}

void WeightStore::Add(QuantizedEntry entry) {
  const auto described = std::make_shared<const QuantizedTensor>(JoinParts(entry, *this));
  StoredTensor tensor = {.name = std::move(entry.name),
                         .shape = std::move(entry.shape),
                         .file = Get(entry.codes).file,
                         .quantized = described};
  for (const int64_t part : {entry.codes, entry.scales, entry.zeros, entry.biases, entry.column_groups,
                             entry.table_scales, entry.table_values, entry.values}) {
    if (part < 0) continue;
    tensor.parts.push_back(part);
    tensor.bytes += Get(part).bytes;
  }
  for (const int64_t factor : {entry.multiplier, entry.divisor}) {
    if (factor >= 0) tensor.factors.push_back(factor);
  }
  tensors_.push_back(std::move(tensor));
}

const StoredTensor& WeightStore::Get(int64_t handle) const {
  if (handle < 0 || handle >= size()) {
    throw std::runtime_error("handle " + std::to_string(handle) + " is not in the weight store, which has " +
                             std::to_string(size()) + " tensors");
  }
  return tensors_[static_cast<size_t>(handle)];
}

void WeightStore::CheckUnchanged() const {
  for (const auto& file : files_) {
    const std::string change = file->Change();
    if (change.empty()) continue;
    throw WeightFileError(
        file->path() + " changed while a model was using it: " + change +
        ". Load the model again; to exchange the weights of one that is in use, write another "
        "file and rename it over this one");
  }
}

std::byte* WeightStore::TakeMemory(size_t bytes) const {
  AlignedMemory memory = AllocateAligned(bytes);
  platform::PreferLargePages(memory.get(), bytes);
  const std::lock_guard<std::mutex> lock(memory_mutex_);
  memory_.push_back(std::move(memory));
  return memory_.back().get();
}

}  // namespace switchyard
