#include "run_job.h"

#include <stdexcept>

#include "shared_object.h"

namespace switchyard::binding {
namespace {

std::string Mismatch(const char* kind, const ops::ValueInfo& info, ort::ElementType given) {
  return std::string(kind) + " '" + info.name + "' is " + ort::ElementName(info.type) +
         " in the graph, but the tensor given is " + ort::ElementName(given);
}

// Numbers by implementation.
Napi::Array CallsArray(Napi::Env env, const ExpertsCalls& calls) {
  Napi::Array array = Napi::Array::New(env, calls.size());
  for (uint32_t i = 0; i < calls.size(); i++)
    array[i] = Napi::Number::New(env, static_cast<double>(calls[i]));
  return array;
}

}  // namespace

RunJob::RunJob(Napi::Env env, std::shared_ptr<const ops::Session> session, Napi::Array feeds,
               Napi::Array outputs, Napi::Array fetches)
    : Job(env), session_(std::move(session)) {
  ort::OrtRunOptions* options = nullptr;
  ort::Check(ort::Api().CreateRunOptions(&options));
  options_.reset(options);
  AddFeeds(env, feeds);
  AddFetches(env, outputs, fetches);
  feeds_kept_ = Napi::Reference<Napi::Array>::New(feeds, 1);
  fetches_kept_ = Napi::Reference<Napi::Array>::New(fetches, 1);
}

RunJob::~RunJob() {
  for (size_t j = 0; j < outputs_.size(); j++) {
    if (!preallocated_[j] && outputs_[j] != nullptr) ort::Api().ReleaseValue(outputs_[j]);
  }
}

void RunJob::AddFeeds(Napi::Env env, const Napi::Array& feeds) {
  const auto& inputs = session_->inputs();
  if (feeds.Length() != inputs.size()) {
    throw Napi::RangeError::New(env, "the graph has " + std::to_string(inputs.size()) +
                                         " inputs to feed, but " + std::to_string(feeds.Length()) +
                                         " were given");
  }
  for (uint32_t i = 0; i < feeds.Length(); i++) {
    const WrappedTensor& tensor = Unwrap(feeds.Get(i));
    if (tensor.type != inputs[i].type)
      throw Napi::TypeError::New(env, Mismatch("input", inputs[i], tensor.type));
    Keep(env, tensor);
    feeds_.push_back(tensor.value.get());
  }
}

void RunJob::AddFetches(Napi::Env env, const Napi::Array& outputs, const Napi::Array& fetches) {
  const auto& known = session_->outputs();
  for (uint32_t j = 0; j < outputs.Length(); j++) {
    const size_t index = outputs.Get(j).As<Napi::Number>().Uint32Value();
    if (index >= known.size())
      throw Napi::RangeError::New(env, "no output has index " + std::to_string(index));
    const Napi::Value fetch = fetches.Get(j);
    output_indices_.push_back(index);
    preallocated_.push_back(fetch.IsExternal());
    if (!fetch.IsExternal()) {
      outputs_.push_back(nullptr);
      continue;
    }
    const WrappedTensor& tensor = Unwrap(fetch);
    Keep(env, tensor);
    outputs_.push_back(tensor.value.get());
    if (tensor.type != known[index].type)
      throw Napi::TypeError::New(env, Mismatch("output", known[index], tensor.type));
  }
}

void RunJob::Keep(Napi::Env env, const WrappedTensor& tensor) {
  if (!tensor.on_device) return;
  device_memory_kept_.push_back(tensor.device_memory.lock());
  if (device_memory_kept_.back() == nullptr)
    throw Napi::Error::New(env, "a tensor's device memory was freed");
}

void RunJob::Execute() { calls_ = session_->Run(options_.get(), feeds_, output_indices_, outputs_); }

void RunJob::Interrupt() {
  // Only sets a flag that the engine reads between nodes; it cannot fail in a way to act upon.
  if (ort::OrtStatus* status = ort::Api().RunOptionsSetTerminate(options_.get()))
    ort::Api().ReleaseStatus(status);
}

void CaptureJob::Execute() {
  for (size_t j = 0; j < outputs_.size(); j++) {
    if (!preallocated_[j]) throw std::runtime_error("a captured run needs a tensor for every output");
  }
  ops::Recording recording = session_->Capture(feeds_, output_indices_, outputs_);
  run_ = std::move(recording.run);
  calls_ = recording.calls;
}

Napi::Value CaptureJob::Result(Napi::Env env) {
  auto step = std::make_shared<CapturedStep>();
  step->session = session_;
  step->feeds = std::move(feeds_kept_);
  step->fetches = std::move(fetches_kept_);
  step->device_memory = std::move(device_memory_kept_);
  step->run = std::move(run_);
  Napi::Object result = Napi::Object::New(env);
  result.Set("run", Share(env, std::move(step)));
  result.Set("expertsCalls", CallsArray(env, calls_));
  return result;
}

Napi::Value RunJob::Result(Napi::Env env) {
  Napi::Array results = Napi::Array::New(env, outputs_.size());
  for (uint32_t j = 0; j < outputs_.size(); j++) {
    if (preallocated_[j]) {
      results[j] = env.Null();
    } else {
      ort::ValuePtr value(outputs_[j]);
      outputs_[j] = nullptr;
      results[j] = TensorResult(env, std::move(value));
    }
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("results", results);
  result.Set("expertsCalls", CallsArray(env, calls_));
  return result;
}

}  // namespace switchyard::binding
