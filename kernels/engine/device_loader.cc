#include "device_loader.h"

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>

#include "../ort/library.h"

namespace switchyard::ops {
namespace {

constexpr const char* kBuildIt = "; build it with: npm run build:cuda";

DeviceLibrary* Open(const std::string& path) {
  void* file = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (file == nullptr) {
    const char* reason = dlerror();
    throw std::runtime_error("the CUDA library does not load: " + std::string(reason) + kBuildIt);
  }
  auto open = reinterpret_cast<OpenDeviceLibrary>(dlsym(file, kOpenDeviceLibrary));
  if (open == nullptr) {
    throw std::runtime_error(path + " is not Switchyard's CUDA library: it has no " + kOpenDeviceLibrary +
                             kBuildIt);
  }
  DeviceLibrary* library = open(kDeviceAbi, sizeof(ort::Functions), &ort::Api());
  if (library == nullptr)
    throw std::runtime_error(path + " was built for another version of Switchyard" + kBuildIt);
  return library;
}

}  // namespace

DeviceLibrary& LoadDeviceLibrary(const std::string& path) {
  static auto* mutex = new std::mutex;
  static auto* libraries = new std::map<std::string, DeviceLibrary*>;
  std::lock_guard<std::mutex> lock(*mutex);
  DeviceLibrary*& library = (*libraries)[path];
  if (library == nullptr) library = Open(path);
  return *library;
}

}  // namespace switchyard::ops
