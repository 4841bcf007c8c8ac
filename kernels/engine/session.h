// An open graph on ONNX Runtime with Switchyard's custom ops.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../common/aligned_memory.h"
#include "../ops/session_context.h"
#include "../ort/library.h"
#include "../weights/expert_memory.h"
#include "../weights/weight_store.h"
#include "device.h"
#include "worker_pool.h"

namespace switchyard::ops {

// A graph input or output. Dimensions of -1 are named by `symbols` (empty where the graph gives no name).
struct ValueInfo {
  std::string name;
  ort::ElementType type = ort::kUndefined;
  std::vector<int64_t> shape;
  std::vector<std::string> symbols;
};

// A graph input that is a stored tensor.
struct BoundInput {
  std::string input;
  int64_t handle;
};

struct SessionConfig {
  int threads = 1;  // the calling thread included
  std::shared_ptr<const WeightStore> store;
  std::shared_ptr<ExpertMemory> experts;  // of the store; null: read where they are mapped
  std::vector<BoundInput> bound_inputs;
  // Where to compute instead of on the CPU: a device, and the weights on it, which a session that opened adds
  // to; they must be uploaded before its first run.
  std::shared_ptr<Device> device;
  std::shared_ptr<DeviceStore> device_store;
};

// A run that was recorded, and the calls that each replay of it stands for.
struct Recording {
  std::unique_ptr<CapturedRun> run;
  ExpertsCalls calls;
};

// One thread-safe session: runs may overlap.
class Session {
 public:
  // Opens one session at a time, with fewer threads where the system grants no more. Throws as the
  // constructor.
  static std::shared_ptr<Session> Open(const void* model, size_t bytes, SessionConfig config);
  // Throws std::runtime_error: a malformed graph, an op's attribute that does not fit the store, a bound
  // input that does not fit its tensor.
  Session(const void* model, size_t bytes, SessionConfig config);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Graph inputs that need a feed, and all outputs.
  const std::vector<ValueInfo>& inputs() const { return inputs_; }
  const std::vector<ValueInfo>& outputs() const { return outputs_; }

  // Runs the graph. feeds[i] belongs to inputs()[i]. outputs[j] becomes the value of
  // outputs()[output_indices[j]]; one that is set on entry is written in place. Returns
  // the calls of MoeExperts. Throws ort::OrtError, and
  // WeightFileError where a file of weights changed.
  ExpertsCalls Run(const ort::OrtRunOptions* options, const std::vector<const ort::OrtValue*>& feeds,
                   const std::vector<size_t>& output_indices, std::vector<ort::OrtValue*>& outputs) const;

  // Records a run on the device, as Run describes it, with every output set. A run with the same values
  // should have preceded it. Throws std::runtime_error where the graph cannot be recorded.
  Recording Capture(const std::vector<const ort::OrtValue*>& feeds, const std::vector<size_t>& output_indices,
                    const std::vector<ort::OrtValue*>& outputs) const;

  // After a recorded run: if runs read from files, waits for it, and throws WeightFileError where one of them
  // has changed.
  void CheckFiles() const;

  // As many as were asked for, or as the system grants.
  int threads() const { return config_.threads; }
  // Tokens that each router has sent to each expert, over all runs; none on a device.
  const SessionRouting& routing() const { return routing_; }
  // Null on the CPU.
  const std::shared_ptr<Device>& device() const { return config_.device; }

 private:
  void Bind(const BoundInput& bound);
  void Enqueue(const ort::OrtRunOptions* options, const std::vector<const ort::OrtValue*>& feeds,
               const std::vector<size_t>& output_indices, std::vector<ort::OrtValue*>& outputs) const;

  SessionConfig config_;
  mutable ExpertsCounter calls_;
  SessionRouting routing_;
  WorkerPool pool_;
  SessionContext context_;
  ort::OpDomain domain_;
  std::unique_ptr<DeviceOps> device_ops_;
  ort::SessionPtr session_;  // after the ops: freed before them
  std::vector<ValueInfo> inputs_, outputs_;
  std::vector<AlignedMemory> aligned_copies_;
  std::vector<std::string> bound_names_;
  std::vector<ort::ValuePtr> bound_values_;
};

}  // namespace switchyard::ops
