// A file mapped read-only.
#pragma once
#include <atomic>
#include <cstddef>
#include <string>

#include "../platform/file_view.h"

namespace switchyard {

// Maps a whole file, shared with the page cache: no byte is read before it is used, and none is ever private
// memory. Whoever overwrites or truncates the file changes what is read here, or takes it away; what was read
// counts only if Change() finds nothing afterwards. A file that is removed, or replaced by renaming another
// over it, stays as it was.
class MappedFile {
 public:
  // Throws std::runtime_error naming the file when it cannot be opened or mapped.
  explicit MappedFile(const std::string& path);
  // `size` bytes of zeros that belong to no file.
  explicit MappedFile(size_t size);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return view_.size(); }
  const std::byte* data() const { return view_.data(); }
  // False for zeros.
  bool is_file() const { return view_.is_file(); }

  // As FileView::ReadUncached; the message names the file.
  void ReadUncached(uint64_t offset, size_t bytes, std::byte* to) const;
  // What happened to the file since it was mapped, in words; empty when nothing did. Any thread.
  std::string Change() const;

 private:
  bool is_guarded() const { return view_.is_file() && data() != nullptr; }

  std::string path_;
  platform::FileView view_;
  platform::FileState state_;  // when it was mapped
  std::atomic<bool> lost_{false};
};

}  // namespace switchyard
