#include "../file_view.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "../pages.h"
#include "text.h"

namespace switchyard::platform {
namespace {

HANDLE Handle(intptr_t file) { return reinterpret_cast<HANDLE>(file); }

[[noreturn]] void Fail(const std::string& path, const char* action, DWORD error) {
  const char* remedy = "";
  if (error == ERROR_SHARING_VIOLATION) remedy = ". A program is writing to it: wait until it has closed it";
  if (error == ERROR_COMMITMENT_LIMIT) remedy = ". Free memory, or let Windows enlarge its page file";
  throw std::runtime_error(path + ": cannot " + action + ": " + ErrorText(error) + remedy);
}

// Without FILE_SHARE_WRITE: whoever wants to write to weights in use is refused.
HANDLE OpenForReading(const std::string& path) {
  return CreateFileW(Utf16Path(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                     OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
}

const std::byte* Map(HANDLE file) {
  HANDLE section = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
  if (section == nullptr) return nullptr;
  // The view keeps the section.
  void* view = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
  const DWORD error = GetLastError();
  CloseHandle(section);
  SetLastError(error);
  return static_cast<const std::byte*>(view);
}

// The same file, opened for reads past the cache of which several may be under way.
HANDLE ReopenUncached(HANDLE file) {
  const HANDLE uncached = ReOpenFile(file, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE,
                                     FILE_FLAG_NO_BUFFERING | FILE_FLAG_OVERLAPPED);
  if (uncached != INVALID_HANDLE_VALUE) return uncached;
  return ReOpenFile(file, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, FILE_FLAG_OVERLAPPED);
}

struct CloseEvent {
  void operator()(void* event) const { CloseHandle(event); }
};

// Bytes read; fewer than asked for at the end of the file.
DWORD ReadAt(HANDLE file, uint64_t offset, DWORD bytes, std::byte* to) {
  const std::unique_ptr<void, CloseEvent> event(CreateEventW(nullptr, TRUE, FALSE, nullptr));
  if (event == nullptr) throw std::runtime_error(ErrorText(GetLastError()));
  OVERLAPPED place = {};
  place.Offset = static_cast<DWORD>(offset);
  place.OffsetHigh = static_cast<DWORD>(offset >> 32);
  place.hEvent = event.get();
  DWORD count = 0;
  const bool started = ReadFile(file, to, bytes, nullptr, &place) != 0 || GetLastError() == ERROR_IO_PENDING;
  if (started && GetOverlappedResult(file, &place, &count, TRUE) != 0) return count;
  const DWORD error = GetLastError();
  if (error == ERROR_HANDLE_EOF) return 0;
  throw std::runtime_error(ErrorText(error));
}

}  // namespace

FileView::FileView(const std::string& path) : file_(reinterpret_cast<intptr_t>(OpenForReading(path))) {
  if (file_ == kNoFile) Fail(path, "open", GetLastError());
  LARGE_INTEGER bytes;
  bool mapped = GetFileSizeEx(Handle(file_), &bytes) != 0;
  if (mapped && bytes.QuadPart > 0) {
    size_ = static_cast<size_t>(bytes.QuadPart);
    data_ = Map(Handle(file_));
    mapped = data_ != nullptr;
  }
  if (mapped) return;
  const DWORD error = GetLastError();
  CloseHandle(Handle(file_));
  Fail(path, "map", error);
}

FileView::FileView(size_t size) : size_(size), data_(static_cast<const std::byte*>(MapZeros(nullptr, size))) {
  if (data_ == nullptr) Fail("(zeros)", "map", GetLastError());
}

FileView::~FileView() {
  if (uncached_ != kNoFile) CloseHandle(Handle(uncached_));
  if (data_ != nullptr) UnmapViewOfFile(data_);
  if (is_file()) CloseHandle(Handle(file_));
}

void FileView::ReadUncached(uint64_t offset, size_t bytes, std::byte* to) const {
  if (uncached_ == kNoFile) {
    const std::scoped_lock lock(deciding_);
    if (uncached_ == kNoFile) {
      const HANDLE opened = ReopenUncached(Handle(file_));
      if (opened == INVALID_HANDLE_VALUE) throw std::runtime_error(ErrorText(GetLastError()));
      uncached_ = reinterpret_cast<intptr_t>(opened);
    }
  }
  constexpr size_t kMost = size_t{1} << 30;  // lengths have 32 bits
  size_t done = 0;
  while (done < bytes) {
    const auto step = static_cast<DWORD>(std::min(bytes - done, kMost));
    const DWORD count = ReadAt(Handle(uncached_), offset + done, step, to + done);
    if (count == 0) break;
    done += count;
  }
  if (offset + done < size_ && done < bytes)
    throw std::runtime_error("it ends at byte " + std::to_string(offset + done));
}

FileState FileView::Look() const {
  BY_HANDLE_FILE_INFORMATION found;
  if (GetFileInformationByHandle(Handle(file_), &found) == 0)
    throw std::runtime_error(ErrorText(GetLastError()));
  const auto wide = [](DWORD high, DWORD low) { return static_cast<uint64_t>(high) << 32 | low; };
  const FILETIME& written = found.ftLastWriteTime;
  return {wide(found.nFileSizeHigh, found.nFileSizeLow),
          static_cast<int64_t>(wide(written.dwHighDateTime, written.dwLowDateTime))};
}

}  // namespace switchyard::platform
