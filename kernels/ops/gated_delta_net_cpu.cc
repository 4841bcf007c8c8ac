#include "gated_delta_net.h"
#include "ops_cpu.h"
#include "rows.h"

namespace switchyard::ops {
namespace {

using Attributes = GatedDeltaNet;

class GatedDeltaNetOnCpu {
 public:
  GatedDeltaNetOnCpu(const KernelInfo& info, SessionContext& session)
      : session_(session), node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  std::vector<cpu::RecurrentRow> ReadRows(KernelContext& context, const Attributes::Sizes& sizes) const;

  SessionContext& session_;
  std::string node_;
  const GatedDeltaNet op_;
};

std::vector<cpu::RecurrentRow> GatedDeltaNetOnCpu::ReadRows(KernelContext& context,
                                                            const Attributes::Sizes& sizes) const {
  const std::vector<SlotRow> slot_rows = ReadSlotRows<Attributes>(node_, context, sizes);
  float* conv = reinterpret_cast<float*>(Present(context, Attributes::kPastConv, Attributes::kPresentConv));
  float* state =
      reinterpret_cast<float*>(Present(context, Attributes::kPastState, Attributes::kPresentState));
  std::vector<cpu::RecurrentRow> rows;
  rows.reserve(slot_rows.size());
  for (const SlotRow& row : slot_rows) {
    rows.push_back({.first = row.first,
                    .tokens = row.count,
                    .fresh = row.fresh,
                    .conv = conv + row.slot * (sizes.kernel - 1) * sizes.channels,
                    .state = state + row.slot * sizes.value_heads * sizes.key_dim * sizes.value_dim});
  }
  return rows;
}

void GatedDeltaNetOnCpu::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = op_.CheckShapes(node_, context);
  const std::vector<cpu::RecurrentRow> rows = ReadRows(context, sizes);
  const Attributes::Parts parts = op_.Find(context, sizes);
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::GatedDeltaNet(
      {.q = parts.q,
       .k = parts.k,
       .v = parts.v,
       .z = parts.z,
       .b = parts.b,
       .a = parts.a,
       .rows = rows.data(),
       .row_count = sizes.rows,
       .tokens = sizes.tokens,
       .key_heads = op_.key_heads,
       .value_heads = sizes.value_heads,
       .key_dim = sizes.key_dim,
       .value_dim = sizes.value_dim,
       .kernel = sizes.kernel,
       .conv = context.Input(Attributes::kConv).As<float>(),
       .a_log = context.Input(Attributes::kALog).As<float>(),
       .dt_bias = context.Input(Attributes::kDtBias).As<float>(),
       .norm = context.Input(Attributes::kNorm).As<float>(),
       .epsilon = op_.epsilon,
       .gated = op_.gated,
       .out = context.Output<float>(Attributes::kMixed, {sizes.tokens, sizes.value_heads * sizes.value_dim})},
      *workspace, pool);
}

}  // namespace

ort::OpPtr MakeGatedDeltaNet(SessionContext& session) {
  return MakeCpuOp<GatedDeltaNetOnCpu>(session, GatedDeltaNet::Schema());
}

}  // namespace switchyard::ops
