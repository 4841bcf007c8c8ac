#include "ops_cuda.h"

#include <stdexcept>

#include "../../../common/float_types.h"

namespace switchyard::ops {
namespace {

class CudaOps final : public DeviceOps {
 public:
  CudaOps(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store, ExpertsCounter& calls)
      : session_{std::move(device), std::move(store), &calls},
        domain_(kDomain,
                {MakeLinear(session_), MakeEmbedding(session_), MakeGatedMlp(session_),
                 MakeMoeRouter(session_), MakeMoeExperts(session_), MakeAttention(session_),
                 MakeCachedAttention(session_), MakeGatedDeltaNet(session_), MakeCausalConv(session_),
                 MakeNgramRows(session_), MakeBlockIndex(session_), MakeTopCandidates(session_)}) {}
  ort::OrtCustomOpDomain* domain() const override { return domain_.get(); }

 private:
  CudaSession session_;
  ort::OpDomain domain_;
};

}  // namespace

std::unique_ptr<DeviceOps> MakeCudaOps(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store,
                                       ExpertsCounter& calls) {
  return std::make_unique<CudaOps>(std::move(device), std::move(store), calls);
}

size_t Bytes(int64_t count, DType dtype) { return static_cast<size_t>(count * DTypeSize(dtype)); }

void CheckLaunch(const std::string& node, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(node + ": the GPU reports an error: " + CudaErrorText(status));
}

void* PresentOnDevice(const CudaSession& session, const std::string& node, KernelContext& context,
                      size_t past, size_t index) {
  const ort::TensorView before = context.Input(past);
  void* present = context.Output<void>(index, before.shape);
  if (present == before.data) return present;
  const size_t bytes = static_cast<size_t>(before.Count()) * ort::ElementSize(before.type);
  CheckLaunch(node, cudaMemcpyAsync(present, before.data, bytes, cudaMemcpyDeviceToDevice,
                                    session.device->cuda_stream()));
  return present;
}

Activations::Activations(ScratchPieces& scratch, DType dtype, const void* fp32, int64_t count,
                         bool rounded_by_product)
    : dtype_(dtype),
      fp32_(fp32),
      count_(count),
      as_they_are_(dtype == DType::kFloat32 ||
                   (rounded_by_product && reinterpret_cast<uintptr_t>(fp32) % 16 == 0)) {
  if (!as_they_are_) piece_ = scratch.Add(Bytes(count, dtype));
}

const void* Activations::Convert(const CudaSession& session, const ScratchPieces& scratch) const {
  if (as_they_are_) return fp32_;
  CheckCuda(cuda::LaunchConvert(fp32_, DType::kFloat32, scratch[piece_], dtype_, count_,
                                session.device->cuda_stream()),
            "converting activations");
  return scratch[piece_];
}

}  // namespace switchyard::ops
