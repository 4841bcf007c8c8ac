// Rows of a pass whose states lie in slots of a pool, as kernels find them in device memory.
#pragma once
#include <cstdint>

namespace switchyard::cuda {

// The tokens of a row that lie in the pass, and its slot; no tokens where the slot is none of the pool's.
struct SlotRow {
  int64_t first, end, slot;
  bool fresh;  // has no past
};

// Of a launcher's arguments `p`, which name rows, lengths and slots as GatedDeltaNetArgs does.
template <typename Args>
__device__ SlotRow SlotRowAt(const Args& p, int64_t index) {
  const int64_t slot = p.state_slots[index];
  const bool valid = slot >= 0 && slot < p.slots;
  const int64_t first = p.row_starts[index], end = p.row_starts[index + 1];
  const bool inside = valid && first >= 0 && first <= end && end <= p.tokens;
  return {inside ? first : 0, inside ? end : 0, slot, p.past_lengths[index] <= 0};
}

// The row of a token; one without tokens where it is in none.
template <typename Args>
__device__ SlotRow SlotRowOf(const Args& p, int64_t token) {
  for (int64_t index = 0; index < p.rows; ++index) {
    const SlotRow row = SlotRowAt(p, index);
    if (token >= row.first && token < row.end) return row;
  }
  return {0, 0, 0, true};
}

}  // namespace switchyard::cuda
