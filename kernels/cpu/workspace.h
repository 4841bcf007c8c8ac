// Scratch memory for the CPU kernels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../common/aligned_memory.h"
#include "../platform/pages.h"

namespace switchyard::cpu {

// Grow-only bump allocator, 64-byte aligned, reused from call to call; one kernel call at a time may use it.
// Memory handed out stays valid until Reset(), or Rewind() to a mark set before it was taken. When a call
// outgrows the buffer, further blocks are added; Reset() merges them, so a steady workload settles on a
// single allocation.
class Workspace {
 public:
  // A position to rewind to.
  struct Mark {
    size_t block;
    size_t used;
  };

  Workspace() = default;
  Workspace(Workspace&& other) noexcept { Swap(other); }
  Workspace& operator=(Workspace&& other) noexcept {
    Swap(other);
    return *this;
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() = default;

  // Uninitialised room for n values of T; throws OutOfMemory.
  template <typename T>
  T* Take(int64_t n) {
    return static_cast<T*>(TakeBytes(static_cast<size_t>(n > 0 ? n : 1) * sizeof(T)));
  }

  // Forgets everything taken so far, keeping the memory.
  void Reset() {
    if (blocks_.size() > 1) {
      const size_t total = capacity();
      Release();
      AddBlock(total);
    }
    at_ = {0, 0};
  }

  Mark mark() const { return at_; }

  // Forgets what was taken since the mark.
  void Rewind(Mark mark) { at_ = mark; }

  // Bytes held.
  size_t capacity() const {
    size_t total = 0;
    for (const Block& block : blocks_) total += block.size;
    return total;
  }

 private:
  static constexpr size_t kLargeBlock = 4 << 20;

  struct Block {
    AlignedMemory data;
    size_t size;
  };

  void* TakeBytes(size_t bytes) {
    constexpr auto kAlignment = static_cast<size_t>(kMemoryAlignment);
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (at_.block < blocks_.size() && at_.used + bytes > blocks_[at_.block].size) at_ = {at_.block + 1, 0};
    if (at_.block == blocks_.size()) AddBlock(bytes);
    void* result = blocks_[at_.block].data.get() + at_.used;
    at_.used += bytes;
    return result;
  }

  // Activations of many tokens lie in thousands of small pages, which the processor has to look up.
  void AddBlock(size_t bytes) {
    blocks_.push_back({AllocateAligned(bytes), bytes});
    if (bytes >= kLargeBlock) platform::PreferLargePages(blocks_.back().data.get(), bytes);
  }

  void Release() {
    blocks_.clear();
    at_ = {0, 0};
  }

  void Swap(Workspace& other) noexcept {
    std::swap(blocks_, other.blocks_);
    std::swap(at_, other.at_);
  }

  std::vector<Block> blocks_;
  Mark at_ = {0, 0};  // where the next value goes
};

}  // namespace switchyard::cpu
