// The words in which ops speak to ONNX Runtime, on every device.
#pragma once
#include "../ort/custom_op.h"

namespace switchyard::ops {

// The domain of every custom op; src/graph uses the same string.
constexpr const char* kDomain = "switchyard";

using ort::Argument;
using ort::CheckLast;
using ort::KernelContext;
using ort::KernelInfo;
using ort::LeadingCount;
using ort::OpSchema;
using ort::WithLast;

}  // namespace switchyard::ops
