// The ops on the CPU: each is made by the file of its name, for one session.
#pragma once
#include <vector>

#include "../weights/weight_ref.h"
#include "session_context.h"

namespace switchyard::ops {

ort::OpPtr MakeLinear(SessionContext& session);
ort::OpPtr MakeEmbedding(SessionContext& session);
ort::OpPtr MakeGatedMlp(SessionContext& session);
ort::OpPtr MakeMoeRouter(SessionContext& session);
ort::OpPtr MakeMoeExperts(SessionContext& session);
ort::OpPtr MakeAttention(SessionContext& session);
ort::OpPtr MakeCachedAttention(SessionContext& session, DType cache);
ort::OpPtr MakeGatedDeltaNet(SessionContext& session);
ort::OpPtr MakeCausalConv(SessionContext& session);
ort::OpPtr MakeNgramRows(SessionContext& session);
ort::OpPtr MakeBlockIndex(SessionContext& session, DType cache);
ort::OpPtr MakeTopCandidates(SessionContext& session);

// All of them.
std::vector<ort::OpPtr> MakeCpuOps(SessionContext& session);

// A weight for products in this precision: row panels where kernels read them.
inline WeightMatrix ProductWeight(const WeightRef& ref, Precision precision) {
  return cpu::ReadsRowPanels(precision) ? InPanels(ref) : InPlace(ref);
}

// By a kernel made of (KernelInfo, SessionContext&).
template <typename Kernel>
ort::OpPtr MakeCpuOp(SessionContext& session, OpSchema schema) {
  return ort::MakeOp<Kernel>(session, std::move(schema), nullptr);
}

}  // namespace switchyard::ops
