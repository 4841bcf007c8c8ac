// The ops on a GPU: each is made by the file of its name, for one session. Between nodes activations are
// fp32; weights and caches are of the session's element type.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../../ops/op.h"
#include "../store.h"

namespace switchyard::ops {

// What the kernels of one session share.
struct CudaSession {
  std::shared_ptr<CudaDevice> device;
  std::shared_ptr<CudaStore> store;
  ExpertsCounter* calls;
  DType dtype() const { return store->dtype(); }
};

ort::OpPtr MakeLinear(CudaSession& session);
ort::OpPtr MakeEmbedding(CudaSession& session);
ort::OpPtr MakeGatedMlp(CudaSession& session);
ort::OpPtr MakeMoeRouter(CudaSession& session);
ort::OpPtr MakeMoeExperts(CudaSession& session);
ort::OpPtr MakeAttention(CudaSession& session);
ort::OpPtr MakeCachedAttention(CudaSession& session);
ort::OpPtr MakeGatedDeltaNet(CudaSession& session);
ort::OpPtr MakeCausalConv(CudaSession& session);
ort::OpPtr MakeNgramRows(CudaSession& session);
ort::OpPtr MakeBlockIndex(CudaSession& session);
ort::OpPtr MakeTopCandidates(CudaSession& session);

// By a kernel made of (KernelInfo, CudaSession&).
template <typename Kernel>
ort::OpPtr MakeCudaOp(CudaSession& session, OpSchema schema) {
  return ort::MakeOp<Kernel>(session, std::move(schema), session.device->provider());
}

// All of them. They keep device and store alive.
std::unique_ptr<DeviceOps> MakeCudaOps(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store,
                                       ExpertsCounter& calls);

// Activations as a product wants them: fp32 ones converted to the session's element type in scratch memory,
// or, where the product rounds them itself and they begin on 16 bytes, as they are.
class Activations {
 public:
  // Reserves what is needed.
  Activations(ScratchPieces& scratch, DType dtype, const void* fp32, int64_t count,
              bool rounded_by_product = false);
  // Whether they stay fp32.
  bool float32() const { return as_they_are_; }
  // After the scratch memory was allocated: enqueues the conversion, and says where the result is.
  const void* Convert(const CudaSession& session, const ScratchPieces& scratch) const;

 private:
  DType dtype_;
  const void* fp32_;
  int64_t count_;
  bool as_they_are_;
  size_t piece_ = 0;
};

// Output `index` with the contents of input `past`, ready to be changed in place.
void* PresentOnDevice(const CudaSession& session, const std::string& node, KernelContext& context,
                      size_t past, size_t index);

// Bytes of `count` elements.
size_t Bytes(int64_t count, DType dtype);

// Throws std::runtime_error beginning with the node for a failed launch.
void CheckLaunch(const std::string& node, cudaError_t status);

}  // namespace switchyard::ops
