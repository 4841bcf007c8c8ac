// A file in the address space, as each system does it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace switchyard::platform {

// What offset, length and memory of a read past the page cache are multiples of.
constexpr size_t kUncachedAlignment = 4096;

// What tells whether a file was changed.
struct FileState {
  uint64_t bytes = 0;
  int64_t modified = 0;  // in the system's units; two writes within its clock's step look like one
};

// A whole file mapped read-only, shared with the page cache. It may be removed, or another renamed over it,
// meanwhile. On Windows nobody can write to it; elsewhere Look() tells.
class FileView {
 public:
  // `path` is in UTF-8. Throws std::runtime_error naming it where it cannot be opened or mapped.
  explicit FileView(const std::string& path);
  // `size` bytes of zeros that belong to no file.
  explicit FileView(size_t size);
  ~FileView();
  FileView(const FileView&) = delete;
  FileView& operator=(const FileView&) = delete;

  // Null where there are no bytes.
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  bool is_file() const { return file_ != kNoFile; }
  // The file itself, and not what its path leads to by now. Throws std::runtime_error in the system's words.
  FileState Look() const;
  // Reads the file itself from `offset` on, without leaving what it reads in the page cache: straight from
  // the disk where the file system can. All three are multiples of kUncachedAlignment; past the end of the
  // file `to` stays as it was. Any thread. Throws std::runtime_error in the system's words, also where the
  // file has become shorter.
  void ReadUncached(uint64_t offset, size_t bytes, std::byte* to) const;

 private:
  static constexpr intptr_t kNoFile = -1;

  intptr_t file_ = kNoFile;  // descriptor or handle
  // How ReadUncached reads, decided by the first of them, kNoFile until then: each system's own. Not by
  // std::call_once, which clang cannot link with the libstdc++ of mingw-w64.
  mutable std::mutex deciding_;
  mutable std::atomic<intptr_t> uncached_{kNoFile};
  size_t size_ = 0;
  const std::byte* data_ = nullptr;
};

}  // namespace switchyard::platform
