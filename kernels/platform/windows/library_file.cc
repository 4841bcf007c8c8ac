#include "../library_file.h"

#include <stdexcept>

#include "text.h"

namespace switchyard::platform {

LibraryFile::LibraryFile(const std::string& path)
    // Its own folder is searched for the libraries that it needs.
    : handle_(LoadLibraryExW(Utf16Path(path).c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH)) {
  if (handle_ == nullptr) throw std::runtime_error(path + ": " + ErrorText(GetLastError()));
}

void* LibraryFile::Address(const char* name) const {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), name));
}

void KeepLoaded(const void* code) {
  HMODULE self = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     static_cast<LPCWSTR>(code), &self);
}

}  // namespace switchyard::platform
