#include <string>

#include "../../../ops/causal_conv.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// Rows, lengths and slots are read on the device alone, as by GatedDeltaNet there.
class CausalConvOnCuda {
 public:
  CausalConvOnCuda(const KernelInfo& info, CudaSession& session)
      : session_(session), node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const CausalConv op_;
};

void CausalConvOnCuda::Compute(KernelContext& context) {
  const CausalConv::Sizes sizes = op_.CheckShapes(node_, context);
  const auto ints = [&](CausalConv::Input input) { return context.Input(input).As<int32_t>(); };
  void* states = PresentOnDevice(session_, node_, context, CausalConv::kPast, CausalConv::kPresent);
  float* out = context.Output<float>(CausalConv::kY, {sizes.tokens, sizes.channels});
  CheckLaunch(node_, cuda::LaunchCausalConv({.tokens = sizes.tokens,
                                             .rows = sizes.rows,
                                             .slots = sizes.slots,
                                             .channels = sizes.channels,
                                             .kernel = static_cast<int>(sizes.kernel),
                                             .dilation = static_cast<int>(op_.dilation),
                                             .x = context.Input(CausalConv::kX).As<float>(),
                                             .weight = context.Input(CausalConv::kWeight).As<float>(),
                                             .states = static_cast<float*>(states),
                                             .row_starts = ints(CausalConv::kRowStarts),
                                             .past_lengths = ints(CausalConv::kPastLengths),
                                             .state_slots = ints(CausalConv::kStateSlots),
                                             .out = out},
                                            session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeCausalConv(CudaSession& session) {
  return MakeCudaOp<CausalConvOnCuda>(session, CausalConv::Schema());
}

}  // namespace switchyard::ops
