// Rows of a pass as ops of the CPU read them, and caches that they write in place.
#pragma once
#include <string>
#include <vector>

#include "op.h"

namespace switchyard::ops {

// The tokens of one row, which lie side by side among those of all rows.
struct RowTokens {
  int64_t first, count;
};

// By input 'row_starts' int32 [rows + 1]: each row's first token, `tokens` at the end. Throws otherwise.
std::vector<RowTokens> ReadRowStarts(const std::string& node, const int32_t* starts, int64_t rows,
                                     int64_t tokens);

// One row of a layer that keeps a state, and where that lies.
struct SlotRow {
  int64_t first, count;
  bool fresh;  // has no past
  int64_t slot;
};
struct SlotInputs {
  const int32_t *starts, *past_lengths, *slots;
};
// By inputs 'row_starts', 'past_lengths' and 'state_slots'. Throws where they do not fit, or two rows share a
// slot.
std::vector<SlotRow> ReadSlotRows(const std::string& node, const SlotInputs& inputs, int64_t rows,
                                  int64_t tokens, int64_t slots);

// The same of an op that names these inputs as the others do.
template <typename Op>
std::vector<SlotRow> ReadSlotRows(const std::string& node, KernelContext& context,
                                  const typename Op::Sizes& sizes) {
  return ReadSlotRows(node,
                      {.starts = context.Input(Op::kRowStarts).template As<int32_t>(),
                       .past_lengths = context.Input(Op::kPastLengths).template As<int32_t>(),
                       .slots = context.Input(Op::kStateSlots).template As<int32_t>()},
                      sizes.rows, sizes.tokens, sizes.slots);
}

std::string RowText(int64_t row);

// Output `index` with the contents of input `past`, ready to be changed in place.
char* Present(KernelContext& context, size_t past, size_t index);

}  // namespace switchyard::ops
