#include "../file_view.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "../pages.h"

namespace switchyard::platform {
namespace {

[[noreturn]] void Fail(const std::string& path, const char* action) {
  const int error = errno;
  const char* remedy = "";
  if (error == EMFILE) remedy = ". Raise the limit on open files of this process (ulimit -n)";
  if (error == ENOMEM) remedy = ". Raise the limit on the address space of this process (ulimit -v)";
  if (error == ELOOP) remedy = ". Its symbolic links lead in a circle: mend them";
  throw std::runtime_error(path + ": cannot " + action + ": " + std::strerror(error) + remedy);
}

int64_t Nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

int64_t ModifiedAt(const struct stat& status) {
#ifdef __APPLE__
  return Nanoseconds(status.st_mtimespec);
#else
  return Nanoseconds(status.st_mtim);
#endif
}

}  // namespace

FileView::FileView(const std::string& path) : file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (file_ == kNoFile) Fail(path, "open");
  struct stat status;
  void* address = MAP_FAILED;
  if (fstat(static_cast<int>(file_), &status) == 0) {
    size_ = static_cast<size_t>(status.st_size);
    address = size_ == 0 ? nullptr : mmap(nullptr, size_, PROT_READ, MAP_SHARED, static_cast<int>(file_), 0);
  }
  if (address == MAP_FAILED) {
    const int error = errno;
    close(static_cast<int>(file_));
    errno = error;
    Fail(path, "map");
  }
  data_ = static_cast<const std::byte*>(address);
}

FileView::FileView(size_t size) : size_(size), data_(static_cast<const std::byte*>(MapZeros(nullptr, size))) {
  if (data_ == nullptr) Fail("(zeros)", "map");
}

FileView::~FileView() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (is_file()) close(static_cast<int>(file_));
}

FileState FileView::Look() const {
  struct stat status;
  if (fstat(static_cast<int>(file_), &status) != 0) throw std::runtime_error(std::strerror(errno));
  return {static_cast<uint64_t>(status.st_size), ModifiedAt(status)};
}

}  // namespace switchyard::platform
