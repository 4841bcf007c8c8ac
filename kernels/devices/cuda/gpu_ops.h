// The kernels of Switchyard's ops on a GPU. Names, attributes and shapes are those of the CPU's; between
// nodes activations are fp32, weights and caches are of the session's element type.
#pragma once
#include <string>
#include <vector>

#include "../../ops/op.h"
#include "../../ops/op_attributes.h"
#include "store.h"

namespace switchyard::ops {

// What the kernels of one session share.
struct GpuSession {
  std::shared_ptr<CudaDevice> device;
  std::shared_ptr<CudaStore> store;
  DType dtype() const { return store->dtype(); }
};

class GpuLinear {
 public:
  static OpSchema Schema();
  GpuLinear(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
  std::vector<DeviceMatrix> weights_, biases_;
};

class GpuEmbedding {
 public:
  static OpSchema Schema();
  GpuEmbedding(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  DeviceMatrix table_;
};

class GpuGatedMlp {
 public:
  static OpSchema Schema();
  GpuGatedMlp(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
  DeviceMatrix gate_, up_, down_, output_gate_;
};

class GpuMoeRouter {
 public:
  static OpSchema Schema();
  GpuMoeRouter(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
  DeviceMatrix weight_;
  int top_k_;
  bool normalize_;
};

class GpuMoeExperts {
 public:
  static OpSchema Schema();
  GpuMoeExperts(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
  MoeExpertsAttributes attributes_;
  ExpertLayer& layer_;
};

class GpuAttention {
 public:
  static OpSchema Schema();
  GpuAttention(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
  AttentionAttributes attributes_;
};

// The highest logits, as many of each row as its input `count` says on every run.
class GpuTopCandidates {
 public:
  static OpSchema Schema();
  GpuTopCandidates(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  GpuSession& session_;
  std::string node_;
};

// Activations as a product wants them: fp32 ones converted to the session's element type in scratch memory.
class Activations {
 public:
  // Reserves what is needed.
  Activations(ScratchPieces& scratch, DType dtype, const void* fp32, int64_t count);
  // After the scratch memory was allocated: enqueues the conversion, and says where the result is.
  const void* Convert(const GpuSession& session, const ScratchPieces& scratch) const;

 private:
  DType dtype_;
  const void* fp32_;
  int64_t count_;
  size_t piece_ = 0;
};

// Throws std::runtime_error beginning with the node for a failed launch.
void CheckLaunch(const std::string& node, cudaError_t status);

}  // namespace switchyard::ops
