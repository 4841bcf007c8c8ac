#include "kernel_io.h"

#include <stdexcept>

#include "../common/shape_text.h"

namespace switchyard::ort {
namespace {

std::string NodeName(const OrtKernelInfo* info) {
  size_t size = 0;
  Check(Api().KernelInfo_GetNodeName(info, nullptr, &size));
  std::string name(size, '\0');
  Check(Api().KernelInfo_GetNodeName(info, name.data(), &size));
  if (!name.empty()) name.pop_back();  // the size counts the final zero
  return name;
}

// True when the attribute could be read; a failed status means that it is missing or of another type.
bool Succeeded(OrtStatus* status) {
  if (status == nullptr) return true;
  Api().ReleaseStatus(status);
  return false;
}

}  // namespace

KernelInfo::KernelInfo(const OrtKernelInfo* info, const char* op)
    : info_(info), node_(std::string(op) + " node '" + NodeName(info) + "'") {}

void KernelInfo::Fail(const std::string& problem) const { throw std::runtime_error(node_ + ": " + problem); }

int64_t KernelInfo::Int(const char* name) const {
  int64_t value = 0;
  if (!Succeeded(Api().KernelInfoGetAttribute_int64(info_, name, &value))) {
    Fail(std::string("int attribute '") + name + "' is missing");
  }
  return value;
}

int64_t KernelInfo::IntOr(const char* name, int64_t fallback) const {
  int64_t value = 0;
  return Succeeded(Api().KernelInfoGetAttribute_int64(info_, name, &value)) ? value : fallback;
}

float KernelInfo::Float(const char* name) const {
  float value = 0;
  if (!Succeeded(Api().KernelInfoGetAttribute_float(info_, name, &value))) {
    Fail(std::string("float attribute '") + name + "' is missing");
  }
  return value;
}

float KernelInfo::FloatOr(const char* name, float fallback) const {
  float value = 0;
  return Succeeded(Api().KernelInfoGetAttribute_float(info_, name, &value)) ? value : fallback;
}

std::vector<int64_t> KernelInfo::IntsOrNone(const char* name) const {
  size_t size = 0;
  if (!Succeeded(Api().KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size))) return {};
  std::vector<int64_t> values(size);
  if (size > 0) Check(Api().KernelInfoGetAttributeArray_int64(info_, name, values.data(), &size));
  return values;
}

std::vector<int64_t> KernelInfo::Ints(const char* name) const {
  std::vector<int64_t> values = IntsOrNone(name);
  if (values.empty()) Fail(std::string("ints attribute '") + name + "' is missing or empty");
  return values;
}

std::string KernelInfo::String(const char* name) const {
  size_t size = 0;
  if (!Succeeded(Api().KernelInfoGetAttribute_string(info_, name, nullptr, &size))) {
    Fail(std::string("string attribute '") + name + "' is missing");
  }
  std::string value(size, '\0');
  Check(Api().KernelInfoGetAttribute_string(info_, name, value.data(), &size));
  if (!value.empty()) value.pop_back();
  return value;
}

size_t KernelInfo::OutputCount() const {
  size_t count = 0;
  Check(Api().KernelInfo_GetOutputCount(info_, &count));
  return count;
}

Precision KernelInfo::ReadPrecision() const {
  const int64_t value = IntOr("precision", 0);
  if (value < 0 || value > 2) {
    Fail("attribute 'precision' is " + std::to_string(value) +
         "; expected 0 (float32), 1 (bfloat16) or 2 (float16)");
  }
  const bool int8 = IntOr("int8_activations", 0) != 0;
  // The CPU computes float16 as float32.
  if (value == 1) return int8 ? Precision::kBFloat16Int8 : Precision::kBFloat16;
  return int8 ? Precision::kFloat32Int8 : Precision::kFloat32;
}

TensorView KernelContext::Input(size_t index) const {
  const OrtValue* value = nullptr;
  Check(Api().KernelContext_GetInput(context_, index, &value));
  return View(value);
}

void* KernelContext::OutputData(size_t index, const std::vector<int64_t>& shape) {
  OrtValue* value = nullptr;
  Check(Api().KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return nullptr;  // an optional output nobody reads
  void* data = nullptr;
  Check(Api().GetTensorMutableData(value, &data));
  return data;
}

std::vector<int64_t> WithLast(std::vector<int64_t> shape, int64_t last) {
  shape.back() = last;
  return shape;
}

int64_t LeadingCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); i++) count *= shape[i];
  return count;
}

void CheckLast(const std::string& node, const char* input, const std::vector<int64_t>& shape, int64_t last) {
  if (!shape.empty() && shape.back() == last) return;
  throw std::runtime_error(node + ": input '" + input + "' has shape " + ShapeText(shape) +
                           "; its last dimension must be " + std::to_string(last));
}

}  // namespace switchyard::ort
