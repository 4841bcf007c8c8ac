#include <limits>

#include "ops_cpu.h"
#include "top_candidates.h"

namespace switchyard::ops {
namespace {

class TopCandidatesOnCpu {
 public:
  TopCandidatesOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
};

TopCandidatesOnCpu::TopCandidatesOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()) {}

void TopCandidatesOnCpu::Compute(KernelContext& context) {
  const auto [rows, vocab, count] =
      TopCandidates::CheckInputs(node_, context, std::numeric_limits<int64_t>::max());
  float* values = context.Output<float>(0, {rows, count});
  int32_t* ids = context.Output<int32_t>(1, {rows, count});
  if (rows == 0 || count == 0) return;
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::TopCandidates({.logits = context.Input(0).As<float>(),
                      .rows = rows,
                      .vocab = vocab,
                      .count = count,
                      .values = values,
                      .ids = ids},
                     *workspace, pool);
}

}  // namespace

ort::OpPtr MakeTopCandidates(SessionContext& session) {
  return MakeCpuOp<TopCandidatesOnCpu>(session, TopCandidates::Schema());
}

}  // namespace switchyard::ops
