#include <algorithm>
#include <stdexcept>

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
  void CheckSlots(const int32_t* slots, const Attributes::Sizes& sizes) const;

  SessionContext& session_;
  std::string node_;
  const GatedDeltaNet op_;
};

void GatedDeltaNetOnCpu::CheckSlots(const int32_t* slots, const Attributes::Sizes& sizes) const {
  std::vector<int64_t> row_of(static_cast<size_t>(sizes.slots), -1);
  for (int64_t r = 0; r < sizes.rows; r++) {
    if (slots[r] < 0 || slots[r] >= sizes.slots) {
      throw std::runtime_error(node_ + ": input 'state_slots' is " + std::to_string(slots[r]) + " for " +
                               RowText(r) + "; the pool has slots 0 to " + std::to_string(sizes.slots - 1));
    }
    int64_t& owner = row_of[static_cast<size_t>(slots[r])];
    if (owner >= 0) {
      throw std::runtime_error(node_ + ": input 'state_slots' gives " + RowText(owner) + " and " +
                               RowText(r) + " slot " + std::to_string(slots[r]));
    }
    owner = r;
  }
}

std::vector<cpu::RecurrentRow> GatedDeltaNetOnCpu::ReadRows(KernelContext& context,
                                                            const Attributes::Sizes& sizes) const {
  const int32_t* lengths = context.Input(Attributes::kPastLengths).As<int32_t>();
  const int32_t* slots = context.Input(Attributes::kStateSlots).As<int32_t>();
  const std::vector<RowTokens> tokens =
      ReadRowStarts(node_, context.Input(Attributes::kRowStarts).As<int32_t>(), sizes.rows, sizes.tokens);
  CheckSlots(slots, sizes);
  float* conv = reinterpret_cast<float*>(Present(context, Attributes::kPastConv, Attributes::kPresentConv));
  float* state =
      reinterpret_cast<float*>(Present(context, Attributes::kPastState, Attributes::kPresentState));
  std::vector<cpu::RecurrentRow> rows;
  for (int64_t r = 0; r < sizes.rows; r++) {
    const RowTokens& of = tokens[static_cast<size_t>(r)];
    if (lengths[r] < 0) {
      throw std::runtime_error(node_ + ": input 'past_lengths' is " + std::to_string(lengths[r]) + " for " +
                               RowText(r) + "; expected 0 or more");
    }
    rows.push_back({.first = of.first,
                    .tokens = of.count,
                    .fresh = lengths[r] == 0,
                    .conv = conv + slots[r] * (sizes.kernel - 1) * sizes.channels,
                    .state = state + slots[r] * sizes.value_heads * sizes.key_dim * sizes.value_dim});
  }
  return rows;
}

void GatedDeltaNetOnCpu::Compute(KernelContext& context) {
  const Attributes::Sizes sizes = op_.CheckShapes(node_, context);
  const std::vector<cpu::RecurrentRow> rows = ReadRows(context, sizes);
  const Attributes::Parts parts = op_.Find(context, sizes);
  OrtThreadPool pool(context, session_.threads);
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
       .out = context.Output<float>(Attributes::kMixed, {sizes.tokens, sizes.value_heads * sizes.value_dim})},
      *workspace, pool);
}

}  // namespace

ort::OpPtr MakeGatedDeltaNet(SessionContext& session) {
  return MakeCpuOp<GatedDeltaNetOnCpu>(session, GatedDeltaNet::Schema());
}

}  // namespace switchyard::ops
