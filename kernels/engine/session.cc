#include "session.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "../ops/ops_cpu.h"
#include "../platform/processors.h"
#include "thread_grant.h"

namespace switchyard::ops {
namespace {

using ort::Api;
using ort::Check;

// Work goes to the stream of the device, so that what Switchyard enqueues itself keeps its place.
void AppendProvider(ort::OrtSessionOptions* options, const Device& device) {
  ort::OrtCudaProviderOptions provider;
  provider.device_id = device.index();
  provider.has_user_compute_stream = 1;
  provider.user_compute_stream = device.stream();
  try {
    Check(Api().SessionOptionsAppendExecutionProvider_CUDA(options, &provider));
  } catch (const ort::OrtError& error) {
    throw std::runtime_error("ONNX Runtime's CUDA provider does not load: " + std::string(error.what()) +
                             "; see what is missing with: switchyard doctor");
  }
}

// Runs enqueue on the device's one stream, one at a time; opening or freeing a session may use it as well,
// and must not do so while a run is recorded.
std::unique_lock<std::mutex> LockRuns(Device* device) {
  return device == nullptr ? std::unique_lock<std::mutex>() : std::unique_lock(device->run_mutex());
}

// More threads than processors would only take turns.
int UsedThreads(int threads) { return std::min(threads, platform::UsableProcessors()); }

ort::SessionPtr OpenOrt(const void* model, size_t bytes, const SessionConfig& config,
                        const ort::OrtCustomOpDomain* domain) {
  ort::OrtSessionOptions* raw = nullptr;
  Check(Api().CreateSessionOptions(&raw));
  ort::SessionOptionsPtr options(raw);
  const bool has_provider = config.device != nullptr && config.device->provider() != nullptr;
  // The level above "extended" rewrites layouts for convolutions, which these graphs do not have.
  Check(Api().SetSessionGraphOptimizationLevel(raw, ort::kOptimizeExtended));
  Check(Api().SetIntraOpNumThreads(raw, has_provider ? 1 : UsedThreads(config.threads)));
  Check(Api().SetInterOpNumThreads(raw, 1));
  // Its threads have little to do beside those of our pool, and would take the processors from them.
  Check(Api().AddSessionConfigEntry(raw, "session.intra_op.allow_spinning", "0"));
  // Every failure also reaches the caller as an error; the log would only say it twice.
  Check(Api().SetSessionLogSeverityLevel(raw, 4));
  Check(Api().AddCustomOpDomain(raw, const_cast<ort::OrtCustomOpDomain*>(domain)));
  if (has_provider) AppendProvider(raw, *config.device);
  const std::unique_lock<std::mutex> lock = LockRuns(config.device.get());
  ort::OrtSession* session = nullptr;
  Check(Api().CreateSessionFromArray(ort::Environment(), model, bytes, raw, &session));
  return ort::SessionPtr(session);
}

ValueInfo ReadValueInfo(const ort::OrtTypeInfo* type_info) {
  const ort::OrtTensorTypeAndShapeInfo* info = nullptr;
  Check(Api().CastTypeInfoToTensorInfo(type_info, &info));
  ValueInfo value;
  if (info == nullptr) return value;  // a sequence or map: its type stays undefined
  Check(Api().GetTensorElementType(info, &value.type));
  size_t rank = 0;
  Check(Api().GetDimensionsCount(info, &rank));
  value.shape.resize(rank);
  Check(Api().GetDimensions(info, value.shape.data(), rank));
  std::vector<const char*> symbols(rank);
  Check(Api().GetSymbolicDimensions(info, symbols.data(), rank));
  for (const char* symbol : symbols) value.symbols.push_back(symbol == nullptr ? "" : symbol);
  return value;
}

template <typename CountFunction, typename TypeFunction, typename NameFunction>
std::vector<ValueInfo> ReadValues(const ort::OrtSession* session, CountFunction count_of,
                                  TypeFunction type_of, NameFunction name_of) {
  ort::OrtAllocator* allocator = nullptr;
  Check(Api().GetAllocatorWithDefaultOptions(&allocator));
  size_t count = 0;
  Check(count_of(session, &count));
  std::vector<ValueInfo> values;
  for (size_t i = 0; i < count; i++) {
    ort::OrtTypeInfo* raw = nullptr;
    Check(type_of(session, i, &raw));
    ort::TypeInfoPtr type_info(raw);
    values.push_back(ReadValueInfo(raw));
    char* name = nullptr;
    Check(name_of(session, i, allocator, &name));
    values.back().name = name;
    Check(Api().AllocatorFree(allocator, name));
  }
  return values;
}

bool Fits(const std::vector<int64_t>& shape, const std::vector<int64_t>& declared) {
  if (shape.size() != declared.size()) return false;
  for (size_t i = 0; i < shape.size(); i++) {
    if (declared[i] >= 0 && declared[i] != shape[i]) return false;
  }
  return true;
}

}  // namespace

Session::Session(const void* model, size_t bytes, SessionConfig config)
    : config_(std::move(config)),
      pool_(config_.device == nullptr ? config_.threads : 1, platform::UsableProcessors()),
      context_{.pool = &pool_,
               .store = config_.store,
               .experts = config_.experts.get(),
               .calls = &calls_,
               .routing = &routing_,
               .workspaces = {},
               .routed_layers = {}},
      domain_(kDomain, MakeCpuOps(context_)),
      device_ops_(config_.device == nullptr ? nullptr
                                            : config_.device->MakeOps(config_.device_store, calls_)),
      session_(OpenOrt(model, bytes, config_, device_ops_ ? device_ops_->domain() : domain_.get())),
      inputs_(ReadValues(session_.get(), Api().SessionGetInputCount, Api().SessionGetInputTypeInfo,
                         Api().SessionGetInputName)),
      outputs_(ReadValues(session_.get(), Api().SessionGetOutputCount, Api().SessionGetOutputTypeInfo,
                          Api().SessionGetOutputName)) {
  for (const BoundInput& bound : config_.bound_inputs) Bind(bound);
  if (!config_.bound_inputs.empty()) config_.store->CheckUnchanged();
}

std::shared_ptr<Session> Session::Open(const void* model, size_t bytes, SessionConfig config) {
  static auto* mutex = new std::mutex;  // used while the process exits
  std::lock_guard<std::mutex> turn(*mutex);
  const int used = UsedThreads(config.threads);
  const int granted = GrantThreads(used);
  if (granted < used) config.threads = granted;
  return std::make_shared<Session>(model, bytes, std::move(config));
}

Session::~Session() {
  const std::unique_lock<std::mutex> lock = LockRuns(config_.device.get());
  session_ = nullptr;
}

void Session::Bind(const BoundInput& bound) {
  auto input =
      std::find_if(inputs_.begin(), inputs_.end(), [&](const ValueInfo& i) { return i.name == bound.input; });
  if (input == inputs_.end())
    throw std::runtime_error("bound input '" + bound.input + "' is not an input of the graph");
  const StoredTensor& tensor = config_.store->Get(bound.handle);
  const auto type = static_cast<ort::ElementType>(tensor.type);
  if (type != input->type || !Fits(tensor.shape, input->shape)) {
    throw std::runtime_error("bound input '" + bound.input + "' is " + ort::ElementName(input->type) + " " +
                             ShapeText(input->shape) + " in the graph, but tensor '" + tensor.name + "' is " +
                             ort::ElementName(type) + " " + ShapeText(tensor.shape));
  }
  // Elements must lie at a multiple of their size; files promise nothing.
  void* data = const_cast<std::byte*>(tensor.data);
  if (reinterpret_cast<uintptr_t>(data) % ort::ElementSize(type) != 0) {
    aligned_copies_.push_back(AllocateAligned(tensor.bytes));
    data = std::memcpy(aligned_copies_.back().get(), data, tensor.bytes);
  }
  bound_values_.push_back(ort::WrapMemory(data, tensor.bytes, type, tensor.shape));
  bound_names_.push_back(bound.input);
  inputs_.erase(input);
}

ExpertsCalls Session::Run(const ort::OrtRunOptions* options, const std::vector<const ort::OrtValue*>& feeds,
                          const std::vector<size_t>& output_indices,
                          std::vector<ort::OrtValue*>& outputs) const {
  const std::unique_lock<std::mutex> lock = LockRuns(config_.device.get());
  CheckFiles();
  const ExpertsCounter::Run counted(calls_);
  try {
    Enqueue(options, feeds, output_indices, outputs);
  } catch (const ort::OrtError&) {
    config_.store->CheckUnchanged();  // which says more than what came of it
    throw;
  }
  CheckFiles();
  return counted.calls();
}

void Session::CheckFiles() const {
  if (config_.device != nullptr) {
    // Whoever brings weights there looks at their files.
    if (!config_.device_store->reads_files()) return;
    config_.device->Wait();
  }
  config_.store->CheckUnchanged();
}

Recording Session::Capture(const std::vector<const ort::OrtValue*>& feeds,
                           const std::vector<size_t>& output_indices,
                           const std::vector<ort::OrtValue*>& outputs) const {
  if (config_.device == nullptr) throw std::runtime_error("runs on the CPU cannot be captured");
  ort::OrtRunOptions* raw = nullptr;
  Check(Api().CreateRunOptions(&raw));
  const std::shared_ptr<ort::OrtRunOptions> options(raw, ort::Releaser<&ort::Functions::ReleaseRunOptions>());
  // A stream that is being recorded cannot be waited for.
  Check(Api().AddRunConfigEntry(raw, "disable_synchronize_execution_providers", "1"));
  std::lock_guard<std::mutex> lock(config_.device->run_mutex());
  const ExpertsCounter::Run counted(calls_);
  auto run = config_.device->Capture([this, options, feeds, output_indices, outputs] {
    std::vector<ort::OrtValue*> targets = outputs;
    Enqueue(options.get(), feeds, output_indices, targets);
  });
  return {std::move(run), counted.calls()};
}

void Session::Enqueue(const ort::OrtRunOptions* options, const std::vector<const ort::OrtValue*>& feeds,
                      const std::vector<size_t>& output_indices, std::vector<ort::OrtValue*>& outputs) const {
  std::vector<const char*> input_names, output_names;
  std::vector<const ort::OrtValue*> values = feeds;
  for (const ValueInfo& input : inputs_) input_names.push_back(input.name.c_str());
  for (size_t i = 0; i < bound_values_.size(); i++) {
    input_names.push_back(bound_names_[i].c_str());
    values.push_back(bound_values_[i].get());
  }
  for (size_t index : output_indices) output_names.push_back(outputs_[index].name.c_str());
  Check(Api().Run(session_.get(), options, input_names.data(), values.data(), values.size(),
                  output_names.data(), output_names.size(), outputs.data()));
}

}  // namespace switchyard::ops
