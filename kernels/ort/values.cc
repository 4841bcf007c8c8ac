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

size_t ElementSize(ElementType type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
    case kFloat16:
    case kBFloat16:
      return 2;
    case kFloat:
    case kInt32:
    case kUint32:
      return 4;
    case kInt64:
    case kDouble:
    case kUint64:
      return 8;
    default:
      return 0;
  }
}

const char* ElementName(ElementType type) {
  switch (type) {
    case kFloat:
      return "float32";
    case kUint8:
      return "uint8";
    case kInt8:
      return "int8";
    case kUint16:
      return "uint16";
    case kInt16:
      return "int16";
    case kInt32:
      return "int32";
    case kInt64:
      return "int64";
    case kString:
      return "string";
    case kBool:
      return "bool";
    case kFloat16:
      return "float16";
    case kDouble:
      return "float64";
    case kUint32:
      return "uint32";
    case kUint64:
      return "uint64";
    case kBFloat16:
      return "bfloat16";
    default:
      return "unknown";
  }
}

}  // namespace switchyard::ort
