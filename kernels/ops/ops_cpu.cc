#include "ops_cpu.h"

namespace switchyard::ops {

std::vector<ort::OpPtr> MakeCpuOps(SessionContext& session) {
  return {MakeLinear(session),
          MakeEmbedding(session),
          MakeGatedMlp(session),
          MakeMoeRouter(session),
          MakeMoeExperts(session),
          MakeAttention(session),
          MakeCachedAttention(session, DType::kFloat32),
          MakeCachedAttention(session, DType::kFloat16),
          MakeCachedAttention(session, DType::kBFloat16),
          MakeGatedDeltaNet(session),
          MakeCausalConv(session),
          MakeNgramRows(session),
          MakeBlockIndex(session, DType::kFloat32),
          MakeBlockIndex(session, DType::kFloat16),
          MakeBlockIndex(session, DType::kBFloat16),
          MakeTopCandidates(session)};
}

}  // namespace switchyard::ops
