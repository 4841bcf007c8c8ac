#include "../../../ops/embedding.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class EmbeddingOnCuda {
 public:
  EmbeddingOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  DeviceWeight table_;
};

EmbeddingOnCuda::EmbeddingOnCuda(const KernelInfo& info, CudaSession& session) : session_(session) {
  const Embedding op(info, session.store->weights());
  if (op.parts.size() > 1) info.Fail("attribute 'parts': a GPU looks up tables in one piece only");
  table_ = session.store->Require(op.parts.front());
}

// Ids are on the device: whoever feeds them has checked them.
void EmbeddingOnCuda::Compute(KernelContext& context) {
  const ort::TensorView ids = context.Input(0);
  std::vector<int64_t> shape = ids.shape;
  shape.push_back(table_.ref.cols);
  float* out = context.Output<float>(0, shape);
  if (ids.Count() == 0) return;
  CheckCuda(cuda::LaunchEmbeddingRows(table_.Data(session_.dtype()), session_.dtype(),
                                      static_cast<int>(table_.ref.cols), ids.As<int64_t>(), ids.Count(), out,
                                      DType::kFloat32, session_.device->cuda_stream()),
            "looking up embeddings");
}

}  // namespace

ort::OpPtr MakeEmbedding(CudaSession& session) {
  return MakeCudaOp<EmbeddingOnCuda>(session, Embedding::Schema());
}

}  // namespace switchyard::ops
