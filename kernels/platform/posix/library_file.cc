#include "../library_file.h"

#include <dlfcn.h>

#include <stdexcept>

namespace switchyard::platform {

LibraryFile::LibraryFile(const std::string& path)
    : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
  if (handle_ == nullptr) throw std::runtime_error(dlerror());
}

void* LibraryFile::Address(const char* name) const { return dlsym(handle_, name); }

void KeepLoaded(const void* code) {
  Dl_info self;
  if (dladdr(code, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

}  // namespace switchyard::platform
