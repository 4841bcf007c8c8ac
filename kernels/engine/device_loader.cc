#include "device_loader.h"

#include <map>
#include <mutex>
#include <stdexcept>

#include "../ort/library.h"
#include "../platform/library_file.h"

namespace switchyard::ops {
namespace {

constexpr const char* kBuildIt = "; build it with: npx moe-switchyard build --cuda";

platform::LibraryFile OpenFile(const std::string& path) try {
  return platform::LibraryFile(path);
} catch (const std::runtime_error& error) {
  throw std::runtime_error("the CUDA library does not load: " + std::string(error.what()) + kBuildIt);
}

DeviceLibrary* Open(const std::string& path) {
  auto open = OpenFile(path).Find<OpenDeviceLibrary>(kOpenDeviceLibrary);
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
