#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace switchyard {
namespace {

[[noreturn]] void Fail(const std::string& path, const char* action) {
  throw std::runtime_error(path + ": cannot " + action + ": " + std::strerror(errno));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) Fail(path, "open");
  struct stat status;
  if (fstat(file, &status) != 0) {
    close(file);
    Fail(path, "stat");
  }
  size_ = static_cast<size_t>(status.st_size);
  void* address = size_ == 0 ? nullptr : mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (address == MAP_FAILED) Fail(path, "map");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(size_t size) : path_("(zeros)"), size_(size) {
  void* address = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) Fail(path_, "map");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace switchyard
