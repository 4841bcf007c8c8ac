#include <string>
#include <vector>

#include "../../../ops/linear.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// Above so many bytes of weights cuBLASLt reads them as fast, and its launch counts for nothing.
constexpr int64_t kMostGemvBytes = int64_t{128} << 20;

class LinearOnCuda {
 public:
  LinearOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  // Multiplies with weight `i` on its own; `a` is x in the session's element type.
  void Multiply(size_t i, const void* a, int64_t tokens, float* out) const;
  // The products of few tokens with all weights at once; false, and nothing is done, where the weights, sizes
  // or addresses do not allow it.
  bool MultiplyTogether(const float* x, int64_t tokens, const std::vector<float*>& outputs) const;

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
  if (MultiplyTogether(x.As<float>(), tokens, outputs)) return;
  ScratchPieces scratch;
  const Activations activations(scratch, session_.dtype(), x.data, tokens * width);
  scratch.Allocate(*session_.device);
  const void* a = activations.Convert(session_, scratch);
  for (size_t i = 0; i < weights_.size(); i++) Multiply(i, a, tokens, outputs[i]);
}

bool LinearOnCuda::MultiplyTogether(const float* x, int64_t tokens,
                                    const std::vector<float*>& outputs) const {
  if (tokens > cuda::kMostRowsOfGemv || weights_.size() > static_cast<size_t>(cuda::kMostGemvWeights))
    return false;
  const DType dtype = session_.dtype();
  cuda::GemvArgs args = {.dtype = dtype,
                         .m = tokens,
                         .k = weights_[0].ref.cols,
                         .x = x,
                         .count = static_cast<int>(weights_.size()),
                         .weights = {}};
  int64_t outputs_of_all = 0;
  for (size_t i = 0; i < weights_.size(); i++) {
    const DeviceWeight& weight = weights_[i];
    if (weight.coded() || weight.transposed()) return false;
    args.weights[i] = {weight.Data(dtype), weight.stride(), weight.ref.rows, biases_[i].Data(dtype),
                       outputs[i]};
    outputs_of_all += weight.ref.rows;
  }
  if (static_cast<int64_t>(Bytes(outputs_of_all * args.k, dtype)) > kMostGemvBytes || !cuda::GemvTakes(args))
    return false;
  CheckLaunch(node_, cuda::LaunchGemv(args, session_.device->cuda_stream()));
  return true;
}

void LinearOnCuda::Multiply(size_t i, const void* a, int64_t tokens, float* out) const {
  const DType dtype = session_.dtype();
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
                                         .out = out,
                                         .out_dtype = DType::kFloat32,
                                         .out_stride = shape.rows},
                                        session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeLinear(CudaSession& session) { return MakeCudaOp<LinearOnCuda>(session, Linear::Schema()); }

}  // namespace switchyard::ops
