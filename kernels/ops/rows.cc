#include "rows.h"

#include <cstring>
#include <stdexcept>

namespace switchyard::ops {

std::vector<RowTokens> ReadRowStarts(const std::string& node, const int32_t* starts, int64_t rows,
                                     int64_t tokens) {
  if (starts[0] != 0 || starts[rows] != tokens) {
    throw std::runtime_error(node + ": input 'row_starts' goes from " + std::to_string(starts[0]) + " to " +
                             std::to_string(starts[rows]) + "; expected 0 to " + std::to_string(tokens) +
                             ", the number of tokens");
  }
  std::vector<RowTokens> read;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t count = int64_t{starts[r + 1]} - starts[r];
    if (count < 0) {
      throw std::runtime_error(node + ": input 'row_starts' falls from " + std::to_string(starts[r]) +
                               " to " + std::to_string(starts[r + 1]) + " after " + RowText(r));
    }
    read.push_back({starts[r], count});
  }
  return read;
}

std::vector<SlotRow> ReadSlotRows(const std::string& node, const SlotInputs& inputs, int64_t rows,
                                  int64_t tokens, int64_t slots) {
  const std::vector<RowTokens> row_tokens = ReadRowStarts(node, inputs.starts, rows, tokens);
  std::vector<int64_t> row_of(static_cast<size_t>(slots), -1);
  std::vector<SlotRow> read;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t slot = inputs.slots[r];
    if (slot < 0 || slot >= slots) {
      throw std::runtime_error(node + ": input 'state_slots' is " + std::to_string(slot) + " for " +
                               RowText(r) + "; the pool has slots 0 to " + std::to_string(slots - 1));
    }
    int64_t& owner = row_of[static_cast<size_t>(slot)];
    if (owner >= 0) {
      throw std::runtime_error(node + ": input 'state_slots' gives " + RowText(owner) + " and " + RowText(r) +
                               " slot " + std::to_string(slot));
    }
    owner = r;
    if (inputs.past_lengths[r] < 0) {
      throw std::runtime_error(node + ": input 'past_lengths' is " + std::to_string(inputs.past_lengths[r]) +
                               " for " + RowText(r) + "; expected 0 or more");
    }
    const auto [first, count] = row_tokens[static_cast<size_t>(r)];
    read.push_back({first, count, inputs.past_lengths[r] == 0, slot});
  }
  return read;
}

std::string RowText(int64_t row) { return "row " + std::to_string(row); }

char* Present(KernelContext& context, size_t past, size_t index) {
  const ort::TensorView before = context.Input(past);
  char* cache = context.Output<char>(index, before.shape);
  if (cache != before.data) {
    const size_t bytes = static_cast<size_t>(before.Count()) * ort::ElementSize(before.type);
    std::memcpy(cache, before.data, bytes);
  }
  return cache;
}

}  // namespace switchyard::ops
