// Values that a linear attention layer has by key head.
#pragma once
#include <cstdint>

namespace switchyard {

// Those of token t and key head g begin at data + t * token_stride + g * head_stride.
struct KeyHeadValues {
  const float* data;
  int64_t token_stride, head_stride;
};

}  // namespace switchyard
