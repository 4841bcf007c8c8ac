// A file mapped read-only.
#pragma once
#include <cstddef>
#include <string>

namespace switchyard {

// Maps a whole file, shared with the page cache: no byte is read before it is used, and none is ever private
// memory. A file that another process truncates while it is mapped makes the kernel raise SIGBUS on the next
// access past its new end; files that are replaced (renamed over) are safe.
class MappedFile {
 public:
  // Throws std::runtime_error naming the file when it cannot be opened or mapped.
  explicit MappedFile(const std::string& path);
  // `size` bytes of zeros that belong to no file (one shared page of the kernel's).
  explicit MappedFile(size_t size);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  const std::byte* data() const { return data_; }

 private:
  std::string path_;
  size_t size_ = 0;
  const std::byte* data_ = nullptr;
};

}  // namespace switchyard
