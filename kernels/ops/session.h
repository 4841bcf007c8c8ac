// An open graph on ONNX Runtime with Switchyard's custom ops.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../common/weight_store.h"
#include "op_domain.h"
#include "ort_library.h"

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
  std::vector<BoundInput> bound_inputs;
};

// One thread-safe session: runs may overlap.
class Session {
 public:
  // Throws std::runtime_error: a malformed graph, an op's attribute that does not fit the store, a bound
  // input that does not fit its tensor.
  Session(const void* model, size_t bytes, SessionConfig config);

  // Graph inputs that need a feed, and all outputs.
  const std::vector<ValueInfo>& inputs() const { return inputs_; }
  const std::vector<ValueInfo>& outputs() const { return outputs_; }

  // Runs the graph. feeds[i] belongs to inputs()[i]. outputs[j] becomes the value of
  // outputs()[output_indices[j]]; one that is set on entry is written in place. Throws ort::OrtError.
  void Run(const ort::OrtRunOptions* options, const std::vector<const ort::OrtValue*>& feeds,
           const std::vector<size_t>& output_indices, std::vector<ort::OrtValue*>& outputs) const;

 private:
  struct AlignedFree {
    void operator()(void* memory) const;
  };
  void Bind(const BoundInput& bound);

  SessionConfig config_;
  OpDomain domain_;
  ort::SessionPtr session_;  // after domain_: freed before it
  std::vector<ValueInfo> inputs_, outputs_;
  std::vector<std::unique_ptr<void, AlignedFree>> aligned_copies_;
  std::vector<std::string> bound_names_;
  std::vector<ort::ValuePtr> bound_values_;
};

}  // namespace switchyard::ops
