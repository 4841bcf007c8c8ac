// The library's entry: hands out the device interface.
#include "../../ort/library.h"

#include "device.h"
#include "platform.h"

namespace switchyard {
namespace {

const ort::Functions* functions = nullptr;

class CudaLibrary final : public ops::DeviceLibrary {
 public:
  const char* provider() const override { return ops::ProviderName(); }
  std::vector<ops::DeviceInfo> List() override { return ops::ListCudaDevices(); }
  std::shared_ptr<ops::Device> Open(int index) override { return std::make_shared<ops::CudaDevice>(index); }
};

}  // namespace

// ONNX Runtime is the addon's; nothing here opens it.
const ort::Functions& ort::Api() { return *functions; }

extern "C" __attribute__((visibility("default"))) ops::DeviceLibrary* switchyard_open_device_library(
    int abi, size_t functions_size, const ort::Functions* engine_functions) {
  if (abi != ops::kDeviceAbi || functions_size != sizeof(ort::Functions)) return nullptr;
  functions = engine_functions;
  static auto* library = new CudaLibrary;  // never deleted: exit handlers may still use it
  return library;
}

}  // namespace switchyard
