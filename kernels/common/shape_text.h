#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

// A shape for messages: "[2, 3]".
inline std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace switchyard
