#include <memory>

#include "../../../ops/embedding.h"
#include "../host_rows.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class EmbeddingOnCuda {
 public:
  EmbeddingOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  int64_t width_;
  DeviceWeight table_;
  std::unique_ptr<HostRows> on_host_;  // instead
};

EmbeddingOnCuda::EmbeddingOnCuda(const KernelInfo& info, CudaSession& session) : session_(session) {
  const Embedding op(info, session.store->weights());
  if (op.parts.size() > 1 && !op.on_host)
    info.Fail("attribute 'parts': on a GPU only tables on the host are in parts; expected 'on_host' 1");
  width_ = op.parts.front().cols;
  if (op.on_host) {
    session.store->NoteRowsOnHost();
    on_host_ = std::make_unique<HostRows>(*session.device, op.parts);
  } else {
    table_ = session.store->Require(op.parts.front(), WeightForm::kCodes);
  }
}

// Ids are on the device: whoever feeds or makes them has checked them.
void EmbeddingOnCuda::Compute(KernelContext& context) {
  const ort::TensorView ids = context.Input(0);
  std::vector<int64_t> shape = ids.shape;
  shape.push_back(width_);
  float* out = context.Output<float>(0, shape);
  if (ids.Count() == 0) return;
  if (on_host_ != nullptr) return on_host_->Read(ids.As<int64_t>(), ids.Count(), out);
  if (table_.coded()) {
    return CheckCuda(
        cuda::LaunchCodedEmbeddingRows(table_.Data(session_.dtype()), static_cast<int>(width_),
                                       ids.As<int64_t>(), ids.Count(), out, session_.device->cuda_stream()),
        "looking up embeddings");
  }
  CheckCuda(cuda::LaunchEmbeddingRows(table_.Data(session_.dtype()), session_.dtype(),
                                      static_cast<int>(width_), ids.As<int64_t>(), ids.Count(), out,
                                      DType::kFloat32, session_.device->cuda_stream()),
            "looking up embeddings");
}

}  // namespace

ort::OpPtr MakeEmbedding(CudaSession& session) {
  return MakeCudaOp<EmbeddingOnCuda>(session, Embedding::Schema());
}

}  // namespace switchyard::ops
