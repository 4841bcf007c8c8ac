// Shared libraries opened at run time.
#pragma once
#include <string>

namespace switchyard::platform {

// An open library. It stays open until the process ends: threads and exit handlers may run its code.
class LibraryFile {
 public:
  // `path` is absolute, in UTF-8. Throws std::runtime_error in the loader's words.
  explicit LibraryFile(const std::string& path);

  // The function of that name, as a pointer of type F; null where the library has none.
  template <typename F>
  F Find(const char* name) const {
    return reinterpret_cast<F>(Address(name));
  }

 private:
  void* Address(const char* name) const;

  void* handle_;
};

// Keeps the library that holds `code` loaded, whoever else closes it.
void KeepLoaded(const void* code);

}  // namespace switchyard::platform
