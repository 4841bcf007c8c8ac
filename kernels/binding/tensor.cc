#include "tensor.h"

#include <cstring>

#include "../weights/weight_store.h"

namespace switchyard::binding {
namespace {

// Below this a copy is cheaper than a buffer with a finalizer.
constexpr size_t kCopyLimit = 64 * 1024;

Napi::ArrayBuffer HandOver(Napi::Env env, ort::ValuePtr value, void* data, size_t bytes) {
  if (bytes > kCopyLimit) {
    napi_value buffer = nullptr;
    auto release = [](napi_env, void*, void* hint) {
      ort::Api().ReleaseValue(static_cast<ort::OrtValue*>(hint));
    };
    // Fails only where the host forbids external memory; then copy.
    if (napi_create_external_arraybuffer(env, data, bytes, release, value.get(), &buffer) == napi_ok) {
      static_cast<void>(value.release());
      return Napi::ArrayBuffer(env, buffer);
    }
  }
  Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, bytes);
  if (bytes > 0) std::memcpy(copy.Data(), data, bytes);
  return copy;
}

}  // namespace

std::vector<int64_t> ReadShape(const Napi::Array& dims) {
  std::vector<int64_t> shape(dims.Length());
  for (uint32_t i = 0; i < dims.Length(); i++) shape[i] = dims.Get(i).As<Napi::Number>().Int64Value();
  return shape;
}

uint64_t BytesOf(ort::ElementType type, const std::vector<int64_t>& shape) {
  uint64_t bytes = ort::ElementSize(type);
  for (int64_t dim : shape) bytes *= static_cast<uint64_t>(dim);
  return bytes;
}

Napi::Value MakeExternal(Napi::Env env, std::unique_ptr<WrappedTensor> tensor) {
  Napi::Value external = Napi::External<WrappedTensor>::New(
      env, tensor.get(), [](Napi::Env, WrappedTensor* finished) { delete finished; });
  static_cast<void>(tensor.release());
  return external;
}

Napi::Value WrapTensor(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsTypedArray() || !info[1].IsNumber() || !info[2].IsArray()) {
    throw Napi::TypeError::New(env,
                               "wrapTensor(bytes, type, dims): expected a Uint8Array, a number and an array");
  }
  const auto array = info[0].As<Napi::Uint8Array>();
  const auto type = static_cast<ort::ElementType>(info[1].As<Napi::Number>().Int32Value());
  const std::vector<int64_t> shape = ReadShape(info[2].As<Napi::Array>());
  const uint64_t bytes = BytesOf(type, shape);
  if (bytes != array.ByteLength()) {
    throw Napi::RangeError::New(env, "a tensor of shape " + ShapeText(shape) + " needs " +
                                         std::to_string(bytes) + " bytes, but its data has " +
                                         std::to_string(array.ByteLength()));
  }
  Napi::ArrayBuffer buffer = array.ArrayBuffer();
  void* data = static_cast<char*>(buffer.Data()) + array.ByteOffset();
  auto wrapped = std::make_unique<WrappedTensor>();
  wrapped->type = type;
  wrapped->buffer = Napi::Reference<Napi::ArrayBuffer>::New(buffer, 1);
  try {
    wrapped->value = ort::WrapMemory(data, array.ByteLength(), type, shape);
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
  return MakeExternal(env, std::move(wrapped));
}

WrappedTensor& Unwrap(Napi::Value external) {
  if (!external.IsExternal())
    throw Napi::TypeError::New(external.Env(), "expected a tensor made by wrapTensor");
  return *external.As<Napi::External<WrappedTensor>>().Data();
}

Napi::Object TensorResult(Napi::Env env, ort::ValuePtr value) {
  const ort::TensorView view = ort::View(value.get());
  Napi::Array dims = Napi::Array::New(env, view.shape.size());
  for (uint32_t i = 0; i < view.shape.size(); i++)
    dims[i] = Napi::Number::New(env, static_cast<double>(view.shape[i]));
  const size_t bytes = static_cast<size_t>(view.Count()) * ort::ElementSize(view.type);
  Napi::Object result = Napi::Object::New(env);
  result.Set("type", Napi::Number::New(env, view.type));
  result.Set("dims", dims);
  result.Set("buffer", HandOver(env, std::move(value), view.data, bytes));
  return result;
}

}  // namespace switchyard::binding
