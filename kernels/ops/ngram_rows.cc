#include "ngram_rows.h"

#include <stdexcept>

#include "../common/shape_text.h"
#include "attention.h"

namespace switchyard::ops {

OpSchema NgramRows::Schema() {
  return {"NgramRows",
          {{ort::kInt64}, {ort::kInt64}, {ort::kInt64}, {ort::kInt64}, {ort::kInt64}},
          {{ort::kInt64}}};
}

NgramRows::NgramRows(const KernelInfo& info) : end_id(info.Int("end_id")) {}

NgramRows::Sizes NgramRows::CheckShapes(const std::string& node, const KernelContext& context) const {
  const Sizes sizes = {.tokens = context.Input(kIds).Count(),
                       .order = context.Input(kMultipliers).Count(),
                       .heads = context.Input(kSizes).Count()};
  if (sizes.order < 2 || sizes.heads < 1 || sizes.heads % (sizes.order - 1) != 0) {
    throw std::runtime_error(node + ": inputs 'multipliers' and 'sizes' have shapes " +
                             ShapeText(context.Input(kMultipliers).shape) + " and " +
                             ShapeText(context.Input(kSizes).shape) +
                             "; expected n from 2 on, and as many sizes for each order from 2 to n");
  }
  CheckShape(node, "ids", context.Input(kIds).shape, {sizes.tokens});
  CheckShape(node, "preceding", context.Input(kPreceding).shape, {sizes.order - 1, sizes.tokens});
  CheckShape(node, "offsets", context.Input(kOffsets).shape, {sizes.heads});
  return sizes;
}

}  // namespace switchyard::ops
