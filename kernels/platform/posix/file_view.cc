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

// Values of uncached_.
constexpr intptr_t kDirect = 1, kThroughCache = 2;

// Has reads of a descriptor go past the page cache. Its mapping does not change. False where the file system
// cannot.
bool SetDirect(int file, bool on) {
#if defined(O_DIRECT)
  const int flags = fcntl(file, F_GETFL);
  return fcntl(file, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
#elif defined(F_NOCACHE)
  return fcntl(file, F_NOCACHE, on ? 1 : 0) == 0;
#else
  return !on;
#endif
}

// What was read through the cache after all gives way to what others need.
void DropFromCache(int file, uint64_t offset, size_t bytes) {
#if defined(POSIX_FADV_DONTNEED)
  posix_fadvise(file, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
#else
  (void)file, (void)offset, (void)bytes;
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

void FileView::ReadUncached(uint64_t offset, size_t bytes, std::byte* to) const {
  const int file = static_cast<int>(file_);
  if (uncached_ == kNoFile) {
    const std::scoped_lock lock(deciding_);
    if (uncached_ == kNoFile) uncached_ = SetDirect(file, true) ? kDirect : kThroughCache;
  }
  size_t done = 0;
  while (done < bytes) {
    const bool is_direct = uncached_ == kDirect;
    const ssize_t count = pread(file, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (count > 0) {
      done += static_cast<size_t>(count);
      continue;
    }
    if (count == 0) break;
    if (errno == EINTR) continue;
    // Some file systems take the flag and refuse the reads, or want larger steps.
    if (errno != EINVAL || !is_direct) throw std::runtime_error(std::strerror(errno));
    SetDirect(file, false);
    uncached_ = kThroughCache;
  }
  if (offset + done < size_ && done < bytes)
    throw std::runtime_error("it ends at byte " + std::to_string(offset + done));
  if (uncached_ == kThroughCache) DropFromCache(file, offset, bytes);
}

FileState FileView::Look() const {
  struct stat status;
  if (fstat(static_cast<int>(file_), &status) != 0) throw std::runtime_error(std::strerror(errno));
  return {static_cast<uint64_t>(status.st_size), ModifiedAt(status)};
}

}  // namespace switchyard::platform
