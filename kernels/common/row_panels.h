// Row panels: a layout of bf16 matrices whose products need no sums across a vector and read memory in one
// stream.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace switchyard {

// Rows of a panel. Values 2p and 2p + 1 of its row r lie at (p * kPanelRows + r) * 4 bytes; panels follow one
// another as their rows do, so that a matrix takes as many bytes as before.
inline constexpr int64_t kPanelRows = 32;

// A stored tensor's copy in row panels, which appears while the tensor is in use.
struct RowPanels {
  std::atomic<bool> wanted{false};                  // somebody multiplies with them
  std::atomic<const std::byte*> complete{nullptr};  // all of the copy
};

}  // namespace switchyard
