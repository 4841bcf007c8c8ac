#include <string>

#include "../../../ops/top_candidates.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// Of the kernel that picks candidates.
constexpr int64_t kMostCandidates = 1024;

class TopCandidatesOnCuda {
 public:
  TopCandidatesOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
};

TopCandidatesOnCuda::TopCandidatesOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session), node_(info.node()) {}

void TopCandidatesOnCuda::Compute(KernelContext& context) {
  const auto [rows, vocab, count] = TopCandidates::CheckInputs(node_, context, kMostCandidates);
  cuda::TopCandidatesArgs args = {.logits = context.Input(0).As<float>(),
                                  .rows = rows,
                                  .vocab = vocab,
                                  .k = static_cast<int>(count),
                                  .values = context.Output<float>(0, {rows, count}),
                                  .ids = context.Output<int32_t>(1, {rows, count}),
                                  .workspace = nullptr,
                                  .workspace_bytes = 0};
  if (args.rows == 0 || count == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::TopCandidatesWorkspaceBytes(args.rows, args.vocab, args.k);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchTopCandidates(args, session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeTopCandidates(CudaSession& session) {
  return MakeCudaOp<TopCandidatesOnCuda>(session, TopCandidates::Schema());
}

}  // namespace switchyard::ops
