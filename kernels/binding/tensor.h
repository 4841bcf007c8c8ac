// Tensors on their way between JavaScript and ONNX Runtime.
#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "../ort/library.h"

namespace switchyard::binding {

// Wraps the memory of a typed array as an ONNX Runtime value and keeps it alive; or a device's memory, which
// whoever uses the value keeps alive. JavaScript holds it as an External, once per Tensor, so that a run
// looks up nothing.
struct WrappedTensor {
  ort::ValuePtr value;
  ort::ElementType type;
  Napi::Reference<Napi::ArrayBuffer> buffer;
  bool on_device = false;
  std::weak_ptr<void> device_memory;
};

// wrapTensor(bytes: Uint8Array, type: number, dims: number[]): External. Throws when bytes and dims disagree.
Napi::Value WrapTensor(const Napi::CallbackInfo& info);

// The WrappedTensor in an External made by MakeExternal.
WrappedTensor& Unwrap(Napi::Value external);
Napi::Value MakeExternal(Napi::Env env, std::unique_ptr<WrappedTensor> tensor);

std::vector<int64_t> ReadShape(const Napi::Array& dims);
// Bytes of a tensor.
uint64_t BytesOf(ort::ElementType type, const std::vector<int64_t>& shape);

// { type, dims, buffer } of a value the engine allocated. Big values are handed over without a copy; `value`
// is then freed with the buffer.
Napi::Object TensorResult(Napi::Env env, ort::ValuePtr value);

}  // namespace switchyard::binding
