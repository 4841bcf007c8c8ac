// The words in which ops speak to ONNX Runtime, on every device.
#pragma once
#include "../ort/custom_op.h"

namespace switchyard::ops {

using ort::Argument;
using ort::CheckLast;
using ort::CustomOp;
using ort::KernelContext;
using ort::KernelInfo;
using ort::LeadingCount;
using ort::OpSchema;
using ort::OrtThreadPool;
using ort::WithLast;

}  // namespace switchyard::ops
