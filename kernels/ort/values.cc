// What needs no more of ONNX Runtime than its functions.
#include "library.h"

namespace switchyard::ort {

void Check(OrtStatus* status) {
  if (status == nullptr) return;
  std::string message = Api().GetErrorMessage(status);
  Api().ReleaseStatus(status);
  throw OrtError(message);
}

int64_t TensorView::Count() const {
  int64_t count = 1;
  for (int64_t dim : shape) count *= dim;
  return count;
}

TensorView View(const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  Check(Api().GetTensorTypeAndShape(value, &raw));
  ShapeInfoPtr info(raw);
  TensorView view;
  Check(Api().GetTensorElementType(raw, &view.type));
  size_t rank = 0;
  Check(Api().GetDimensionsCount(raw, &rank));
  view.shape.resize(rank);
  Check(Api().GetDimensions(raw, view.shape.data(), rank));
  // The C interface has one accessor; reading through it changes nothing.
  Check(Api().GetTensorMutableData(const_cast<OrtValue*>(value), &view.data));
  return view;
}

}  // namespace switchyard::ort
