#include <string>
#include <vector>

#include "../../../ops/linear.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class LinearOnCuda {
 public:
  LinearOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  std::vector<DeviceWeight> weights_, biases_;
};

LinearOnCuda::LinearOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session), node_(info.node()) {
  const Linear op(info, session.store->weights());
  for (const WeightRef& weight : op.weights)
    weights_.push_back(session.store->Require(weight, WeightForm::kCodes));
  for (const WeightRef& bias : op.biases) biases_.push_back(session.store->Require(bias));
}

void LinearOnCuda::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  const int64_t width = weights_[0].ref.cols;
  CheckLast(node_, "x", x.shape, width);
  std::vector<float*> outputs;
  for (size_t i = 0; i < weights_.size(); i++) {
    outputs.push_back(context.Output<float>(i, WithLast(x.shape, weights_[i].ref.rows)));
  }
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * width);
  scratch.Allocate(*session_.device);
  const void* a = activations.Convert(session_, scratch);
  for (size_t i = 0; i < weights_.size(); i++) {
    const WeightRef& shape = weights_[i].ref;
    CheckLaunch(node_, cuda::LaunchLinear(session_.device->gemm(),
                                          {.dtype = dtype,
                                           .m = tokens,
                                           .n = shape.rows,
                                           .k = shape.cols,
                                           .a = a,
                                           .a_stride = shape.cols,
                                           .w = weights_[i].Data(dtype),
                                           .w_stride = weights_[i].stride(),
                                           .transposed = weights_[i].transposed(),
                                           .coded = weights_[i].coded(),
                                           .bias = biases_[i].Data(dtype),
                                           .out = outputs[i],
                                           .out_dtype = DType::kFloat32,
                                           .out_stride = shape.rows},
                                          session_.device->cuda_stream()));
  }
}

}  // namespace

ort::OpPtr MakeLinear(CudaSession& session) { return MakeCudaOp<LinearOnCuda>(session, Linear::Schema()); }

}  // namespace switchyard::ops
