// Scratch memory for the CPU kernels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace switchyard::cpu {

// Grow-only bump allocator, 64-byte aligned, reused from call to call; one kernel call at a time may use it.
// Memory handed out stays valid until the next Reset(). When a call outgrows the buffer, further blocks are added;
// Reset() merges them into one block, so a steady workload settles on a single allocation.
class Workspace {
 public:
  Workspace() = default;
  Workspace(Workspace&& other) noexcept
      : blocks_(std::move(other.blocks_)), used_(std::exchange(other.used_, 0)) {
    other.blocks_.clear();
  }
  Workspace& operator=(Workspace&& other) noexcept {
    std::swap(blocks_, other.blocks_);
    std::swap(used_, other.used_);
    return *this;
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() { Release(); }

  // Uninitialised room for n values of T; throws std::bad_alloc.
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
    used_ = 0;
  }

  // Bytes held.
  size_t capacity() const {
    size_t total = 0;
    for (const Block& block : blocks_) total += block.size;
    return total;
  }

 private:
  struct Block {
    void* data;
    size_t size;
  };
  static constexpr size_t kAlignment = 64;

  void* TakeBytes(size_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (blocks_.empty() || used_ + bytes > blocks_.back().size) {
      AddBlock(bytes);
      used_ = 0;
    }
    void* result = static_cast<char*>(blocks_.back().data) + used_;
    used_ += bytes;
    return result;
  }

  void AddBlock(size_t bytes) {
    blocks_.reserve(blocks_.size() + 1);
    void* data = std::aligned_alloc(kAlignment, bytes);
    if (data == nullptr) throw std::bad_alloc();
    blocks_.push_back({data, bytes});
  }

  void Release() {
    for (const Block& block : blocks_) std::free(block.data);
    blocks_.clear();
    used_ = 0;
  }

  std::vector<Block> blocks_;  // the last one is being filled
  size_t used_ = 0;            // bytes taken from the last block
};

}  // namespace switchyard::cpu
