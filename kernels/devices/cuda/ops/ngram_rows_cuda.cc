#include <string>

#include "../../../ops/ngram_rows.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class NgramRowsOnCuda {
 public:
  NgramRowsOnCuda(const KernelInfo& info, CudaSession& session)
      : session_(session), node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const NgramRows op_;
};

// What the inputs say is on the device: a head whose size is none reads no row.
void NgramRowsOnCuda::Compute(KernelContext& context) {
  const NgramRows::Sizes sizes = op_.CheckShapes(node_, context);
  const auto values = [&](NgramRows::Input input) { return context.Input(input).As<int64_t>(); };
  CheckLaunch(node_, cuda::LaunchNgramRows({.tokens = sizes.tokens,
                                            .order = static_cast<int>(sizes.order),
                                            .heads = static_cast<int>(sizes.heads),
                                            .end_id = op_.end_id,
                                            .ids = values(NgramRows::kIds),
                                            .preceding = values(NgramRows::kPreceding),
                                            .multipliers = values(NgramRows::kMultipliers),
                                            .sizes = values(NgramRows::kSizes),
                                            .offsets = values(NgramRows::kOffsets),
                                            .out = context.Output<int64_t>(0, {sizes.tokens, sizes.heads})},
                                           session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeNgramRows(CudaSession& session) {
  return MakeCudaOp<NgramRowsOnCuda>(session, NgramRows::Schema());
}

}  // namespace switchyard::ops
