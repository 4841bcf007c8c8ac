#include "causal_conv.h"
#include "ops_cpu.h"
#include "rows.h"

namespace switchyard::ops {
namespace {

using Attributes = CausalConv;

class CausalConvOnCpu {
 public:
  CausalConvOnCpu(const KernelInfo& info, SessionContext& session)
      : session_(session), node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const CausalConv op_;
};

void CausalConvOnCpu::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = op_.CheckShapes(node_, context);
  const std::vector<SlotRow> slot_rows = ReadSlotRows<Attributes>(node_, context, sizes);
  float* past = reinterpret_cast<float*>(Present(context, Attributes::kPast, Attributes::kPresent));
  std::vector<cpu::ConvRow> rows;
  rows.reserve(slot_rows.size());
  for (const SlotRow& row : slot_rows) {
    rows.push_back({.first = row.first,
                    .tokens = row.count,
                    .fresh = row.fresh,
                    .context = past + row.slot * sizes.context * sizes.channels});
  }
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::CausalConv({.x = context.Input(Attributes::kX).As<float>(),
                   .weight = context.Input(Attributes::kWeight).As<float>(),
                   .rows = rows.data(),
                   .row_count = sizes.rows,
                   .tokens = sizes.tokens,
                   .channels = sizes.channels,
                   .kernel = sizes.kernel,
                   .dilation = op_.dilation,
                   .y = context.Output<float>(Attributes::kY, {sizes.tokens, sizes.channels})},
                  *workspace, pool);
}

}  // namespace

ort::OpPtr MakeCausalConv(SessionContext& session) {
  return MakeCpuOp<CausalConvOnCpu>(session, CausalConv::Schema());
}

}  // namespace switchyard::ops
