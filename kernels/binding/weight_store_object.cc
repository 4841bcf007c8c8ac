#include "weight_store_object.h"

#include <cmath>
#include <utility>
#include <vector>

#include "../engine/round_weights.h"
#include "../weights/pinned_pages.h"
#include "../weights/prefetch.h"
#include "../weights/quantized_parts.h"
#include "../weights/widen.h"
#include "function_job.h"
#include "native_error.h"
#include "residency_counts.h"

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

// The numbers of one record, in order.
class Record {
 public:
  Record(const double* numbers, std::string name) : next_(numbers), name_(std::move(name)) {}

  double Number() { return *next_++; }
  int64_t Whole(Napi::Env env) {
    constexpr double kMost = 9007199254740991.0;
    const double value = Number();
    if (value >= -kMost && value <= kMost && value == std::floor(value)) return static_cast<int64_t>(value);
    throw Napi::RangeError::New(env,
                                "WeightStore: quantized tensor '" + name_ + "' has an impossible number");
  }

 private:
  const double* next_;
  std::string name_;
};

// Numbers of a record; shapes of fewer dimensions leave the last of them unused.
constexpr size_t kRecordNumbers = 28;
constexpr size_t kMostDims = 3;

QuantizedEntry ReadQuantized(Napi::Env env, const double* numbers, const std::string& name) {
  Record record(numbers, name);
  QuantizedEntry entry;
  entry.name = name;
  for (int64_t* field : {&entry.codes,        &entry.code_type,      &entry.bits,        &entry.order,
                         &entry.values,       &entry.scales,         &entry.scale_kind,  &entry.group_rows,
                         &entry.group_cols,   &entry.transposed,     &entry.multiplier,  &entry.divisor,
                         &entry.table_values, &entry.table_scales,   &entry.table_group, &entry.zeros,
                         &entry.zero_order,   &entry.zeros_less_one, &entry.zero,        &entry.biases,
                         &entry.column_groups}) {
    *field = record.Whole(env);
  }
  for (double* field : {&entry.multiply, &entry.divide, &entry.table_offset}) *field = record.Number();
  const int64_t rank = record.Whole(env);
  for (int64_t i = 0; i < rank && i < static_cast<int64_t>(kMostDims); i++)
    entry.shape.push_back(record.Whole(env));
  return entry;
}

std::vector<QuantizedEntry> ReadAllQuantized(const Napi::CallbackInfo& info) {
  const std::vector<std::string> names = ReadStrings(info, 8);
  const auto numbers = ReadColumn<double>(info, 9, napi_float64_array);
  if (numbers.size != names.size() * kRecordNumbers)
    throw Napi::RangeError::New(info.Env(), "WeightStore: records of quantized tensors have another length");
  std::vector<QuantizedEntry> entries;
  entries.reserve(names.size());
  for (size_t i = 0; i < names.size(); i++)
    entries.push_back(ReadQuantized(info.Env(), numbers.data + i * kRecordNumbers, names[i]));
  return entries;
}

}  // namespace

Napi::Function WeightStoreObject::Define(Napi::Env env) {
  return DefineClass(env, "WeightStore",
                     {InstanceMethod<&WeightStoreObject::JsReadFloat32>("readFloat32"),
                      InstanceMethod<&WeightStoreObject::JsCheckScales>("checkScales"),
                      InstanceMethod<&WeightStoreObject::JsRoundWeights>("roundWeights"),
                      InstanceMethod<&WeightStoreObject::JsPrefetch>("prefetch"),
                      InstanceMethod<&WeightStoreObject::JsPin>("pin"),
                      InstanceMethod<&WeightStoreObject::JsBoundExperts>("boundExperts"),
                      InstanceMethod<&WeightStoreObject::JsPrepareExperts>("prepareExperts"),
                      InstanceMethod<&WeightStoreObject::JsPinExperts>("pinExperts"),
                      InstanceMethod<&WeightStoreObject::JsExpertsStatus>("expertsStatus"),
                      InstanceMethod<&WeightStoreObject::JsDispose>("dispose")});
}

WeightStoreObject::WeightStoreObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<WeightStoreObject>(info) {
  const std::vector<std::string> files = ReadStrings(info, 0);
  std::vector<TensorEntry> entries = ReadEntries(info, files.size());
  std::vector<QuantizedEntry> quantized = ReadAllQuantized(info);
  store_ = WithCodes(info.Env(),
                     [&] { return WeightStore::Open(files, std::move(entries), std::move(quantized)); });
}

std::shared_ptr<const WeightStore> WeightStoreObject::store(Napi::Env env) const {
  if (store_ == nullptr) throw Napi::Error::New(env, "the weight store is disposed");
  return store_;
}

Napi::Value WeightStoreObject::JsReadFloat32(const Napi::CallbackInfo& info) {
  const auto open = store(info.Env());
  const StoredTensor& tensor = open->Get(info[0].ToNumber().Int64Value());
  if (!IsWeight(tensor)) {
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

Napi::Value WeightStoreObject::JsCheckScales(const Napi::CallbackInfo& info) {
  const auto handles = ReadColumn<int32_t>(info, 0, napi_int32_array);
  const auto check = [open = store(info.Env()), stop = stop_reading_,
                      allows_zero = info[1].ToBoolean().Value(),
                      all = std::vector<int64_t>(handles.data, handles.data + handles.size)] {
    for (const int64_t handle : all) {
      if (*stop) return true;
      const StoredTensor& tensor = open->Get(handle);
      if (tensor.quantized != nullptr) CheckScales(*open, tensor, allows_zero);
    }
    open->CheckUnchanged();
    return true;
  };
  return StartFunction<bool>(
      info.Env(), check, [](Napi::Env env, bool&) { return env.Undefined(); }, StopReading());
}

Napi::Value WeightStoreObject::JsRoundWeights(const Napi::CallbackInfo& info) {
  const auto numbers = ReadColumn<double>(info, 0, napi_float64_array);
  RoundRequest request;
  int64_t transposed = 0, zero_points = 0;
  int64_t* const fields[] = {&request.handle, &request.matrix, &request.first_row, &request.first_col,
                             &request.rows,   &request.cols,   &transposed,        &request.bits,
                             &request.group,  &zero_points};
  if (numbers.size != std::size(fields))
    throw Napi::RangeError::New(info.Env(), "roundWeights: the request has another length");
  for (size_t i = 0; i < numbers.size; i++) *fields[i] = static_cast<int64_t>(numbers.data[i]);
  request.transposed = transposed != 0;
  request.zero_points = zero_points != 0;
  const auto bytes = [](Napi::Env env, const std::vector<std::byte>& from) {
    return Napi::Buffer<std::byte>::Copy(env, from.data(), from.size());
  };
  return StartFunction<RoundedRows>(
      info.Env(), [open = store(info.Env()), request] { return RoundWeights(*open, request); },
      [bytes](Napi::Env env, RoundedRows& rows) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("codes", bytes(env, rows.codes));
        object.Set("scales", bytes(env, rows.scales));
        object.Set("zeros", bytes(env, rows.zeros));
        return object;
      });
}

void WeightStoreObject::JsPrefetch(const Napi::CallbackInfo& info) {
  const auto handles = ReadColumn<int32_t>(info, 0, napi_int32_array);
  StartPrefetch(store(info.Env()), std::vector<int64_t>(handles.data, handles.data + handles.size),
                info[1].ToBoolean() ? WeightPages::kCopied : WeightPages::kMapped, stop_reading_);
}

Napi::Value WeightStoreObject::JsPin(const Napi::CallbackInfo& info) {
  const auto numbers = ReadColumn<int32_t>(info, 0, napi_int32_array);
  std::vector<TensorSlice> slices;
  for (size_t i = 0; i + 2 < numbers.size; i += 3)
    slices.push_back({numbers.data[i], numbers.data[i + 1], numbers.data[i + 2]});
  return StartFunction<PinnedBytes>(
      info.Env(),
      [open = store(info.Env()), slices = std::move(slices), stop = stop_reading_] {
        return PinSlices(*open, slices, *stop);
      },
      [](Napi::Env env, PinnedBytes& pinned) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("locked", static_cast<double>(pinned.locked));
        object.Set("read", static_cast<double>(pinned.read));
        return object;
      },
      StopReading());
}

void WeightStoreObject::JsBoundExperts(const Napi::CallbackInfo& info) {
  const ExpertMemory::Limits limits = {.max_bytes = info[0].ToNumber().Int64Value(),
                                       .other_bytes = info[1].ToNumber().Int64Value()};
  experts_ = std::make_shared<ExpertMemory>(store(info.Env()), limits);
}

std::function<void()> WeightStoreObject::StopReading() const {
  return [stop = stop_reading_] { *stop = true; };
}

std::shared_ptr<ExpertMemory> WeightStoreObject::BoundedExperts(Napi::Env env) const {
  if (experts_ == nullptr) throw Napi::Error::New(env, "the experts of this store are not bounded");
  return experts_;
}

Napi::Value WeightStoreObject::JsPrepareExperts(const Napi::CallbackInfo& info) {
  const auto open = [experts = BoundedExperts(info.Env())] {
    experts->Open();
    return true;
  };
  return StartFunction<bool>(info.Env(), open, [](Napi::Env env, bool&) { return env.Undefined(); });
}

Napi::Value WeightStoreObject::JsPinExperts(const Napi::CallbackInfo& info) {
  const auto numbers = ReadColumn<int32_t>(info, 0, napi_int32_array);
  std::vector<ExpertId> pinned;
  for (size_t i = 0; i + 1 < numbers.size; i += 2) pinned.push_back({numbers.data[i], numbers.data[i + 1]});
  return StartFunction<int64_t>(
      info.Env(),
      [experts = BoundedExperts(info.Env()), pinned = std::move(pinned),
       max_bytes = info[1].ToNumber().Int64Value(),
       stop = stop_reading_] { return experts->Pin(pinned, max_bytes, *stop); },
      [](Napi::Env env, int64_t& count) { return Napi::Number::New(env, static_cast<double>(count)); },
      StopReading());
}

Napi::Value WeightStoreObject::JsExpertsStatus(const Napi::CallbackInfo& info) {
  const auto experts = BoundedExperts(info.Env());
  return DescribeResidency(info.Env(), experts->resident_bytes(), experts->counts());
}

void WeightStoreObject::JsDispose(const Napi::CallbackInfo& info) {
  *stop_reading_ = true;
  // Giving back many pages of memory takes longer than an event loop should wait.
  if (experts_ != nullptr) {
    auto free = [experts = std::exchange(experts_, nullptr)]() mutable {
      experts = nullptr;
      return true;
    };
    StartFunction<bool>(info.Env(), std::move(free), [](Napi::Env env, bool&) { return env.Undefined(); });
  }
  store_ = nullptr;
}

}  // namespace switchyard::binding
