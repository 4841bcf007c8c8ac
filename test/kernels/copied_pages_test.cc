// Checks that a mapped file gives way to a copy in memory while it is read.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "../../kernels/platform/file_view.h"
#include "../../kernels/platform/pages.h"
#include "cuda/testing.h"

namespace {

using switchyard::platform::CopyIntoMemory;
using switchyard::platform::FileView;
using switchyard::platform::LargePageSize;
using switchyard::platform::PageSize;

constexpr size_t kBytes = (9 << 20) + 12345;

uint64_t Sum(const FileView& view) {
  uint64_t sum = 0;
  for (size_t i = 0; i < view.size(); i++) sum = sum * 31 + static_cast<uint64_t>(view.data()[i]);
  return sum;
}

// A file of `kBytes` bytes that is gone with this object.
class File {
 public:
  explicit File(const char* name)
      : path_(std::filesystem::temp_directory_path() /
              (std::string("switchyard-") + name + std::to_string(reinterpret_cast<uintptr_t>(this)))) {
    std::vector<char> bytes(kBytes);
    for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  ~File() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

void CopiedWhileRead() {
  const File file("read");
  const FileView view(file.path());
  const uint64_t expected = Sum(view);
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; i++)
    readers.emplace_back([&] {
      do EXPECT(Sum(view) == expected, "what a reader sees");
      while (!stop);
    });
  // In pieces of odd numbers of pages, to the end of the last page.
  const auto begin = reinterpret_cast<uintptr_t>(view.data());
  const uintptr_t end = begin + (kBytes + PageSize() - 1) / PageSize() * PageSize();
  const uintptr_t piece = 701 * PageSize();
  for (uintptr_t at = begin; at < end; at += piece) {
    const bool copied = CopyIntoMemory(at, std::min(end, at + piece));
    EXPECT(copied == (LargePageSize() > 0), "a piece is copied where there are large pages");
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT(Sum(view) == expected, "what is read afterwards");
  EXPECT(!CopyIntoMemory(begin, begin), "no page, no copy");
}

// What is written to the file later is not seen: the pages are this process's own.
void OwnPages() {
  if (LargePageSize() == 0) return;
  const File file("own");
  const FileView view(file.path());
  const std::byte first = view.data()[0];
  const auto begin = reinterpret_cast<uintptr_t>(view.data());
  EXPECT(CopyIntoMemory(begin, begin + PageSize()), "one page");
  std::fstream out(file.path(), std::ios::in | std::ios::out | std::ios::binary);
  const char other = static_cast<char>(static_cast<int>(first) + 1);
  out.write(&other, 1);
  out.seekp(static_cast<std::streamoff>(PageSize()));
  out.write(&other, 1);
  out.close();
  EXPECT(view.data()[0] == first, "a copied page");
  EXPECT(view.data()[PageSize()] == static_cast<std::byte>(other), "a mapped page");
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"copied while it is read", CopiedWhileRead}, {"pages of its own", OwnPages}});
}
