#include <stdexcept>
#include <string>

#include "../../../ops/gated_delta_net.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

using Attributes = GatedDeltaNet;

// Rows, lengths and slots are read on the device alone, as by CachedAttention there: what they say is not
// checked, and a row that does not fit gets zeros.
class GatedDeltaNetOnCuda {
 public:
  GatedDeltaNetOnCuda(const KernelInfo& info, CudaSession& session)
      : session_(session), node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const GatedDeltaNet op_;
};

void GatedDeltaNetOnCuda::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = op_.CheckShapes(node_, context);
  const Attributes::Parts parts = op_.Find(context, sizes);
  if (sizes.key_dim > cuda::kMostDeltaKeys) {
    throw std::runtime_error(node_ + ": keys have " + std::to_string(sizes.key_dim) +
                             " dimensions; a GPU computes up to " + std::to_string(cuda::kMostDeltaKeys));
  }
  const auto present = [&](size_t past, size_t index) {
    return static_cast<float*>(PresentOnDevice(session_, node_, context, past, index));
  };
  cuda::GatedDeltaNetArgs args;
  args.q = parts.q;
  args.k = parts.k;
  args.v = parts.v;
  args.z = parts.z;
  args.b = parts.b;
  args.a = parts.a;
  args.tokens = sizes.tokens;
  args.rows = sizes.rows;
  args.slots = sizes.slots;
  args.key_heads = static_cast<int>(op_.key_heads);
  args.value_heads = static_cast<int>(sizes.value_heads);
  args.key_dim = static_cast<int>(sizes.key_dim);
  args.value_dim = static_cast<int>(sizes.value_dim);
  args.kernel = static_cast<int>(sizes.kernel);
  args.conv = context.Input(Attributes::kConv).As<float>();
  args.a_log = context.Input(Attributes::kALog).As<float>();
  args.dt_bias = context.Input(Attributes::kDtBias).As<float>();
  args.norm = context.Input(Attributes::kNorm).As<float>();
  args.epsilon = op_.epsilon;
  args.gated = op_.gated;
  args.conv_states = present(Attributes::kPastConv, Attributes::kPresentConv);
  args.states = present(Attributes::kPastState, Attributes::kPresentState);
  args.row_starts = context.Input(Attributes::kRowStarts).As<int32_t>();
  args.past_lengths = context.Input(Attributes::kPastLengths).As<int32_t>();
  args.state_slots = context.Input(Attributes::kStateSlots).As<int32_t>();
  args.out = context.Output<float>(Attributes::kMixed, {sizes.tokens, sizes.value_heads * sizes.value_dim});
  if (sizes.tokens == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::GatedDeltaNetWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchGatedDeltaNet(args, session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeGatedDeltaNet(CudaSession& session) {
  return MakeCudaOp<GatedDeltaNetOnCuda>(session, GatedDeltaNet::Schema());
}

}  // namespace switchyard::ops
