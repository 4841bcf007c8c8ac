#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "lost_pages.h"

namespace switchyard {
namespace {

[[noreturn]] void Fail(const std::string& path, const char* action) {
  const int error = errno;
  const char* remedy = "";
  if (error == EMFILE) remedy = ". Raise the limit on open files of this process (ulimit -n)";
  if (error == ENOMEM) remedy = ". Raise the limit on the address space of this process (ulimit -v)";
  if (error == ELOOP) remedy = ". Its symbolic links lead in a circle: mend them";
  throw std::runtime_error(path + ": cannot " + action + ": " + std::strerror(error) + remedy);
}

std::pair<time_t, long> ModifiedAt(const struct stat& status) {
#ifdef __APPLE__
  return {status.st_mtimespec.tv_sec, status.st_mtimespec.tv_nsec};
#else
  return {status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
#endif
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) Fail(path, "open");
  void* address = MAP_FAILED;
  if (fstat(file_, &status_) == 0) {
    size_ = static_cast<size_t>(status_.st_size);
    address = size_ == 0 ? nullptr : mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_, 0);
  }
  if (address == MAP_FAILED) {
    const int error = errno;
    close(file_);
    errno = error;
    Fail(path, "map");
  }
  data_ = static_cast<const std::byte*>(address);
  if (data_ != nullptr) GuardPages(data_, size_, &lost_);
}

MappedFile::MappedFile(size_t size) : path_("(zeros)"), size_(size) {
  void* address = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) Fail(path_, "map");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (file_ >= 0 && data_ != nullptr) UnguardPages(data_);
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (file_ >= 0) close(file_);
}

std::string MappedFile::Change() const {
  if (file_ < 0) return "";
  struct stat now;
  if (fstat(file_, &now) != 0) return std::string("it cannot be looked at any more: ") + std::strerror(errno);
  if (now.st_size != status_.st_size) {
    return "it had " + std::to_string(status_.st_size) + " bytes, now it has " + std::to_string(now.st_size);
  }
  if (ModifiedAt(now) != ModifiedAt(status_)) return "it was written to";
  return lost_ ? "a part of it could not be read" : "";
}

}  // namespace switchyard
