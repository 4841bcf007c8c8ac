// Reads a mapped file that somebody else cuts short meanwhile:
//
//   lost_pages FILE
//
// makes FILE.mapped once the file is mapped, and reads all of it as soon as that is gone again. Prints what
// it says of the file then. It ends with 0 if the reads were survived and the change was seen.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "../../kernels/weights/mapped_file.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const std::string path = arguments[1];
  const std::string mark = path + ".mapped";
  const switchyard::MappedFile file(path);
  std::ofstream(mark) << file.size();
  while (std::filesystem::exists(mark)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  size_t zeros = 0;
  for (size_t i = 0; i < file.size(); i++) {
    if (static_cast<const volatile std::byte*>(file.data())[i] == std::byte{0}) zeros++;
  }
  const std::string change = file.Change();
  std::printf("%s; %zu zeros\n", change.c_str(), zeros);
  return !change.empty() && zeros > 0 ? 0 : 1;
}
