// Opens libonnxruntime and owns what the whole process shares: its functions and one environment.
#pragma once
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "api.h"

namespace switchyard::ort {

// Something ONNX Runtime reported, in its words.
class OrtError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Opens the library file at `path` on the first call; later calls must name the same file. Throws
// std::runtime_error when the file is missing, too old, of an unknown major version, or does not behave as
// its version promises.
void OpenLibrary(const std::string& path);

// Version of the open library, such as "1.30.0".
const std::string& LibraryVersion();

// The open library's functions. Valid after OpenLibrary.
const Functions& Api();

// The process-wide environment and CPU memory description. Never released: sessions of any thread may outlive
// the rest.
OrtEnv* Environment();
const OrtMemoryInfo* CpuMemory();

// Throws OrtError for a failed status and frees it.
void Check(OrtStatus* status);

template <auto Release>
struct Releaser {
  template <typename T>
  void operator()(T* object) const {
    (Api().*Release)(object);
  }
};
using SessionPtr = std::unique_ptr<OrtSession, Releaser<&Functions::ReleaseSession>>;
using SessionOptionsPtr = std::unique_ptr<OrtSessionOptions, Releaser<&Functions::ReleaseSessionOptions>>;
using RunOptionsPtr = std::unique_ptr<OrtRunOptions, Releaser<&Functions::ReleaseRunOptions>>;
using ValuePtr = std::unique_ptr<OrtValue, Releaser<&Functions::ReleaseValue>>;
using TypeInfoPtr = std::unique_ptr<OrtTypeInfo, Releaser<&Functions::ReleaseTypeInfo>>;
using ShapeInfoPtr =
    std::unique_ptr<OrtTensorTypeAndShapeInfo, Releaser<&Functions::ReleaseTensorTypeAndShapeInfo>>;
using MemoryInfoPtr = std::unique_ptr<OrtMemoryInfo, Releaser<&Functions::ReleaseMemoryInfo>>;
using DomainPtr = std::unique_ptr<OrtCustomOpDomain, Releaser<&Functions::ReleaseCustomOpDomain>>;

// A tensor value over memory that somebody else owns and that must outlive it; the CPU's unless `memory` says
// otherwise.
ValuePtr WrapMemory(void* data, size_t bytes, ElementType type, const std::vector<int64_t>& shape,
                    const OrtMemoryInfo* memory = nullptr);

// Element type, shape and first byte of a tensor value.
struct TensorView {
  ElementType type = kUndefined;
  std::vector<int64_t> shape;
  void* data = nullptr;

  template <typename T>
  T* As() const {
    return static_cast<T*>(data);
  }
  int64_t Count() const;
};
TensorView View(const OrtValue* value);

using onnx::ElementName;
using onnx::ElementSize;

}  // namespace switchyard::ort
