#include <stdexcept>

#include "embedding.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class EmbeddingOnCpu {
 public:
  EmbeddingOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const Embedding op_;
  std::vector<WeightMatrix> parts_;
};

EmbeddingOnCpu::EmbeddingOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info, *session.store) {
  for (const WeightRef& part : op_.parts) parts_.push_back(InPlace(part));
}

void EmbeddingOnCpu::Compute(KernelContext& context) {
  const ort::TensorView ids = context.Input(0);
  const int64_t count = ids.Count();
  for (int64_t i = 0; i < count; i++) {
    const int64_t id = ids.As<int64_t>()[i];
    if (id >= 0 && id < op_.Rows()) continue;
    throw std::runtime_error(node_ + ": id " + std::to_string(id) + " at position " + std::to_string(i) +
                             " is outside the table of " + std::to_string(op_.Rows()) + " rows");
  }
  std::vector<int64_t> shape = ids.shape;
  shape.push_back(parts_.front().cols);
  float* out = context.Output<float>(0, shape);
  if (count == 0) return;
  ThreadPool& pool = *session_.pool;
  cpu::EmbeddingRows(parts_.data(), ids.As<int64_t>(), count, out, pool);
}

}  // namespace

ort::OpPtr MakeEmbedding(SessionContext& session) {
  return MakeCpuOp<EmbeddingOnCpu>(session, Embedding::Schema());
}

}  // namespace switchyard::ops
