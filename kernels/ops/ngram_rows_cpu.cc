#include <stdexcept>

#include "ngram_rows.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class NgramRowsOnCpu {
 public:
  NgramRowsOnCpu(const KernelInfo& info, SessionContext&) : node_(info.node()), op_(info) {}
  void Compute(KernelContext& context);

 private:
  // Of the token `token`.
  void Find(const KernelContext& context, const NgramRows::Sizes& sizes, int64_t token, int64_t* rows) const;

  std::string node_;
  const NgramRows op_;
};

void NgramRowsOnCpu::Find(const KernelContext& context, const NgramRows::Sizes& sizes, int64_t token,
                          int64_t* rows) const {
  const auto values = [&](NgramRows::Input input) { return context.Input(input).As<int64_t>(); };
  const int64_t* multipliers = values(NgramRows::kMultipliers);
  const int64_t* moduli = values(NgramRows::kSizes);
  const int64_t* offsets = values(NgramRows::kOffsets);
  const int64_t heads = sizes.heads / (sizes.order - 1);  // of one order
  // In unsigned numbers, which wrap round.
  const auto product = [&](int64_t id, int64_t place) {
    return static_cast<uint64_t>(id) * static_cast<uint64_t>(multipliers[place]);
  };
  uint64_t mixed = product(values(NgramRows::kIds)[token], 0);
  bool ended = false;
  for (int64_t i = 1; i < sizes.order; i++) {
    const int64_t id = values(NgramRows::kPreceding)[(i - 1) * sizes.tokens + token];
    ended = ended || id < 0 || id == op_.end_id;
    mixed ^= product(ended ? op_.end_id : id, i);
    for (int64_t head = (i - 1) * heads; head < i * heads; head++) {
      const int64_t remainder = static_cast<int64_t>(mixed) % moduli[head];
      rows[head] = (remainder < 0 ? remainder + moduli[head] : remainder) + offsets[head];
    }
  }
}

void NgramRowsOnCpu::Compute(KernelContext& context) {
  const NgramRows::Sizes sizes = op_.CheckShapes(node_, context);
  const int64_t* moduli = context.Input(NgramRows::kSizes).As<int64_t>();
  for (int64_t head = 0; head < sizes.heads; head++) {
    if (moduli[head] > 0) continue;
    throw std::runtime_error(node_ + ": input 'sizes' has " + std::to_string(moduli[head]) +
                             "; expected at least 1");
  }
  int64_t* rows = context.Output<int64_t>(0, {sizes.tokens, sizes.heads});
  for (int64_t token = 0; token < sizes.tokens; token++)
    Find(context, sizes, token, rows + token * sizes.heads);
}

}  // namespace

ort::OpPtr MakeNgramRows(SessionContext& session) {
  return MakeCpuOp<NgramRowsOnCpu>(session, NgramRows::Schema());
}

}  // namespace switchyard::ops
