#include "weight_store_object.h"

#include <utility>
#include <vector>

#include "../weights/prefetch.h"
#include "../weights/widen.h"
#include "native_error.h"

namespace switchyard::binding {
namespace {

template <typename T>
struct Column {
  const T* data;
  size_t size;
};

template <typename T>
Column<T> ReadColumn(const Napi::CallbackInfo& info, size_t index, napi_typedarray_type type) {
  if (!info[index].IsTypedArray() || info[index].As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Napi::TypeError::New(info.Env(),
                               "WeightStore: argument " + std::to_string(index) + " has the wrong type");
  }
  auto array = info[index].As<Napi::TypedArrayOf<T>>();
  return {array.Data(), array.ElementLength()};
}

std::vector<std::string> ReadStrings(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsArray())
    throw Napi::TypeError::New(info.Env(), "WeightStore: expected an array of strings");
  Napi::Array array = info[index].As<Napi::Array>();
  std::vector<std::string> strings(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::HandleScope scope(info.Env());
    strings[i] = array.Get(i).As<Napi::String>().Utf8Value();
  }
  return strings;
}

std::vector<TensorEntry> ReadEntries(const Napi::CallbackInfo& info, size_t file_count) {
  std::vector<std::string> names = ReadStrings(info, 1);
  const auto files = ReadColumn<uint32_t>(info, 2, napi_uint32_array);
  const auto offsets = ReadColumn<double>(info, 3, napi_float64_array);
  const auto bytes = ReadColumn<double>(info, 4, napi_float64_array);
  const auto types = ReadColumn<int32_t>(info, 5, napi_int32_array);
  const auto ranks = ReadColumn<int32_t>(info, 6, napi_int32_array);
  const auto dims = ReadColumn<double>(info, 7, napi_float64_array);
  const size_t count = names.size();
  size_t total_rank = 0;
  for (size_t i = 0; i < ranks.size; i++) total_rank += static_cast<size_t>(ranks.data[i]);
  if (files.size != count || offsets.size != count || bytes.size != count || types.size != count ||
      ranks.size != count || dims.size != total_rank) {
    throw Napi::RangeError::New(info.Env(), "WeightStore: columns differ in length");
  }
  std::vector<TensorEntry> entries(count);
  const double* dim = dims.data;
  for (size_t i = 0; i < count; i++) {
    if (files.data[i] >= file_count || !(offsets.data[i] >= 0) || !(bytes.data[i] >= 0)) {
      throw Napi::RangeError::New(info.Env(),
                                  "WeightStore: tensor '" + names[i] + "' has an impossible place");
    }
    entries[i] = {std::move(names[i]),
                  files.data[i],
                  static_cast<uint64_t>(offsets.data[i]),
                  static_cast<uint64_t>(bytes.data[i]),
                  types.data[i],
                  std::vector<int64_t>(dim, dim + ranks.data[i])};
    dim += ranks.data[i];
  }
  return entries;
}

}  // namespace

Napi::Function WeightStoreObject::Define(Napi::Env env) {
  return DefineClass(env, "WeightStore",
                     {InstanceMethod<&WeightStoreObject::JsReadFloat32>("readFloat32"),
                      InstanceMethod<&WeightStoreObject::JsPrefetch>("prefetch"),
                      InstanceMethod<&WeightStoreObject::JsDispose>("dispose")});
}

WeightStoreObject::WeightStoreObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<WeightStoreObject>(info) {
  const std::vector<std::string> files = ReadStrings(info, 0);
  std::vector<TensorEntry> entries = ReadEntries(info, files.size());
  store_ = WithCodes(info.Env(), [&] { return WeightStore::Open(files, std::move(entries)); });
}

std::shared_ptr<const WeightStore> WeightStoreObject::store(Napi::Env env) const {
  if (store_ == nullptr) throw Napi::Error::New(env, "the weight store is disposed");
  return store_;
}

Napi::Value WeightStoreObject::JsReadFloat32(const Napi::CallbackInfo& info) {
  const auto open = store(info.Env());
  const StoredTensor& tensor = open->Get(info[0].ToNumber().Int64Value());
  if (!IsWeightType(tensor.type)) {
    throw Napi::TypeError::New(info.Env(),
                               "tensor '" + tensor.name + "' is not bfloat16, float16 or float32");
  }
  int64_t count = 1;
  for (int64_t dim : tensor.shape) count *= dim;
  Napi::Float32Array values = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
  Widen(tensor, values.Data());
  WithCodes(info.Env(), [&] { open->CheckUnchanged(); });
  return values;
}

void WeightStoreObject::JsPrefetch(const Napi::CallbackInfo& info) {
  const auto handles = ReadColumn<int32_t>(info, 0, napi_int32_array);
  StartPrefetch(store(info.Env()), std::vector<int64_t>(handles.data, handles.data + handles.size),
                stop_prefetch_);
}

void WeightStoreObject::JsDispose(const Napi::CallbackInfo&) {
  *stop_prefetch_ = true;
  store_ = nullptr;
}

}  // namespace switchyard::binding
