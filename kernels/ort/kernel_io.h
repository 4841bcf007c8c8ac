// What an op's kernel sees of ONNX Runtime: attributes when it is created, tensors when it runs.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../common/types.h"
#include "library.h"

namespace switchyard::ort {

// The node a kernel is created for.
class KernelInfo {
 public:
  KernelInfo(const OrtKernelInfo* info, const char* op);

  // "Linear node 'layers.0.q_proj'", for messages.
  const std::string& node() const { return node_; }
  // Attributes; the ones without a fallback throw when missing.
  int64_t Int(const char* name) const;
  int64_t IntOr(const char* name, int64_t fallback) const;
  float Float(const char* name) const;
  float FloatOr(const char* name, float fallback) const;
  std::vector<int64_t> Ints(const char* name) const;
  std::vector<int64_t> IntsOrNone(const char* name) const;
  std::string String(const char* name) const;
  size_t OutputCount() const;

  // The attribute `precision`.
  Precision ReadPrecision() const;

  [[noreturn]] void Fail(const std::string& problem) const;

 private:
  const OrtKernelInfo* info_;
  std::string node_;
};

// One call of a kernel.
class KernelContext {
 public:
  explicit KernelContext(OrtKernelContext* context) : context_(context) {}

  TensorView Input(size_t index) const;
  // Makes output `index` with this shape and returns its first element.
  template <typename T>
  T* Output(size_t index, const std::vector<int64_t>& shape) {
    return static_cast<T*>(OutputData(index, shape));
  }
  OrtKernelContext* raw() const { return context_; }

 private:
  void* OutputData(size_t index, const std::vector<int64_t>& shape);
  OrtKernelContext* context_;
};

// Shape of x with its last dimension replaced.
std::vector<int64_t> WithLast(std::vector<int64_t> shape, int64_t last);
// Product of all dimensions but the last.
int64_t LeadingCount(const std::vector<int64_t>& shape);
// Throws unless x has at least one dimension and the last is `last`.
void CheckLast(const std::string& node, const char* input, const std::vector<int64_t>& shape, int64_t last);

}  // namespace switchyard::ort
