#include "quantized_parts.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "../common/quantized_elements.h"

namespace switchyard {
namespace {

bool MultiplyInto(int64_t& product, int64_t factor) {
  return factor >= 1 && !__builtin_mul_overflow(product, factor, &product);
}

int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// Joins the parts of one tensor. Sizes are checked against what rows, columns and groups call for, in
// numbers that are known not to overflow.
class Parts {
 public:
  Parts(const QuantizedEntry& entry, const WeightStore& store) : entry_(entry), store_(store) {}

  QuantizedTensor Join() {
    ReadShape();
    ReadCodes();
    ReadGrid();
    ReadScales();
    ReadZeros();
    ReadBiases();
    ReadColumnGroups();
    return q_;
  }

 private:
  [[noreturn]] void Refuse(const std::string& what) const {
    throw WeightFileError("quantized tensor '" + entry_.name + "' " + what);
  }

  [[noreturn]] static void Refuse(const StoredTensor& part, const std::string& what) {
    throw WeightFileError(part.file->path() + ": tensor '" + part.name + "' " + what);
  }

  const StoredTensor& Part(int64_t handle, const char* role) const {
    if (handle < 0 || handle >= store_.size() || store_.Get(handle).data == nullptr)
      Refuse("has no tensor of " + std::string(role));
    return store_.Get(handle);
  }

  // A part that must have so many bytes.
  const std::byte* Sized(const StoredTensor& part, int64_t bytes, const char* role) const {
    if (part.bytes == static_cast<size_t>(bytes)) return part.data;
    Refuse(part, "of shape " + ShapeText(part.shape) + " has " + std::to_string(part.bytes) + " bytes; the " +
                     role + " of '" + entry_.name + "' " + ShapeText(entry_.shape) + " take " +
                     std::to_string(bytes));
  }

  const std::byte* Floats(int64_t handle, int64_t count, const char* role) const {
    const StoredTensor& part = Part(handle, role);
    if (part.type != onnx::kFloat) Refuse(part, "is not float32, as the " + std::string(role) + " must be");
    return Sized(part, count * 4, role);
  }

  int64_t Choice(int64_t value, int64_t count, const char* what) const {
    if (value >= 0 && value < count) return value;
    Refuse("has no " + std::string(what) + " of number " + std::to_string(value));
  }

  void ReadShape() {
    const std::vector<int64_t>& shape = entry_.shape;
    // Bits of codes and bytes of scales are a few times the elements at most.
    int64_t bits = 64;
    bool fits = shape.size() == 2 || shape.size() == 3;
    for (const int64_t dim : shape) fits = fits && MultiplyInto(bits, dim);
    if (!fits) Refuse("has an impossible shape " + ShapeText(shape));
    q_.matrices = shape.size() == 3 ? shape[0] : 1;
    q_.rows = shape[shape.size() - 2];
    q_.cols = shape[shape.size() - 1];
  }

  void ReadCodes() {
    q_.type = static_cast<CodeType>(Choice(entry_.code_type, kCodeTypes, "code type"));
    q_.order = static_cast<CodeOrder>(Choice(entry_.order, kCodeOrders, "code order"));
    const int64_t bits = entry_.bits;
    bool known = false;
    switch (q_.type) {
      case CodeType::kUint:
        known = bits >= 2 && bits <= 8 && bits != 7;
        break;
      case CodeType::kInt:
      case CodeType::kE4m3:
        known = bits == 8;
        break;
      case CodeType::kE2m1:
      case CodeType::kTable:
        known = bits == 4;
        break;
    }
    const bool is_whole_in_words = bits == 2 || bits == 4 || bits == 8;
    if (q_.order == CodeOrder::kColumns) known = known && is_whole_in_words;
    if (q_.order == CodeOrder::kRowsHighFirst || q_.order == CodeOrder::kAwq) known = known && bits == 4;
    if (!known)
      Refuse("has codes of " + std::to_string(bits) + " bits, which are not served in this type and order");
    q_.bits = static_cast<int>(bits);

    const StoredTensor& codes = Part(entry_.codes, "codes");
    const int64_t row_bits = q_.cols * bits;
    const bool in_words = q_.order == CodeOrder::kColumns || q_.order == CodeOrder::kAwq;
    if (in_words && q_.matrices != 1) Refuse("joins several matrices in an order that is known for one only");
    switch (q_.order) {
      case CodeOrder::kRows: {
        const int64_t rows = q_.matrices * q_.rows;
        const bool in_whole_words = codes.bytes == static_cast<size_t>(CeilDiv(row_bits, 32) * 4 * rows);
        q_.row_bytes = in_whole_words ? CeilDiv(row_bits, 32) * 4 : CeilDiv(row_bits, 8);
        q_.codes = Sized(codes, q_.row_bytes * rows, "codes");
        break;
      }
      case CodeOrder::kRowsHighFirst:
        q_.codes = Sized(codes, CeilDiv(q_.matrices * q_.rows * q_.cols, 2), "codes");
        break;
      case CodeOrder::kColumns:
        if (row_bits % 32 != 0)
          Refuse("has " + std::to_string(q_.cols) + " columns, which fill no whole words");
        q_.codes = Sized(codes, row_bits / 8 * q_.rows, "codes");
        break;
      case CodeOrder::kAwq:
        if (q_.rows % 8 != 0) Refuse("has " + std::to_string(q_.rows) + " rows, which fill no whole words");
        q_.codes = Sized(codes, q_.rows / 2 * q_.cols, "codes");
        break;
    }
    if (q_.type == CodeType::kTable) q_.values = Floats(entry_.values, 16, "values of codes");
  }

  void ReadGrid() {
    q_.group_rows = entry_.group_rows;
    q_.group_cols = entry_.group_cols;
    if (q_.group_rows < 0 || q_.group_cols < 1) Refuse("has groups of an impossible size");
    if (q_.flat()) {
      if (entry_.transposed != 0) Refuse("has groups that cross rows, and scales with their columns first");
      scale_count_ = CeilDiv(q_.matrices * q_.rows * q_.cols, q_.group_cols);
      if (q_.cols % q_.group_cols != 0) return;
      q_.group_rows = 1;
    }
    const int64_t rows = CeilDiv(q_.rows, q_.group_rows);
    q_.row_step = entry_.transposed != 0 ? 1 : q_.col_groups();
    q_.col_step = entry_.transposed != 0 ? rows : 1;
    q_.matrix_step = rows * q_.col_groups();
    scale_count_ = q_.matrices * q_.matrix_step;
  }

  void ReadScales() {
    const StoredTensor& scales = Part(entry_.scales, "scales");
    switch (Choice(entry_.scale_kind, 3, "kind of scales")) {
      case 0:
        q_.scale_type = FloatScales(scales);
        break;
      case 1:
        q_.scale_type = ScaleType::kExponent;
        break;
      default:
        q_.scale_type = ScaleType::kTable;
        ReadScaleTable();
    }
    const bool in_bytes = q_.scale_type == ScaleType::kExponent || q_.scale_type == ScaleType::kTable;
    if (in_bytes && scales.type != onnx::kUint8) Refuse(scales, "is not uint8, as its scales must be");
    q_.scales = Sized(scales, scale_count_ * ScaleBytes(q_.scale_type), "scales");
    q_.multiply = Factor(entry_.multiply, "multiplier");
    q_.divide = Factor(entry_.divide, "divisor");
    if (entry_.multiplier >= 0) q_.multiplier = Floats(entry_.multiplier, 1, "multiplier of the scales");
    if (entry_.divisor >= 0) q_.divisor = Floats(entry_.divisor, 1, "divisor of the scales");
  }

  static int64_t ScaleBytes(ScaleType type) {
    if (type == ScaleType::kFloat32) return 4;
    return type == ScaleType::kFloat16 || type == ScaleType::kBFloat16 ? 2 : 1;
  }

  static ScaleType FloatScales(const StoredTensor& part) {
    if (part.type == onnx::kFloat) return ScaleType::kFloat32;
    if (part.type == onnx::kFloat16) return ScaleType::kFloat16;
    if (part.type == onnx::kBFloat16) return ScaleType::kBFloat16;
    if (part.type == onnx::kFloat8E4m3) return ScaleType::kE4m3;
    Refuse(part, "is of a type that scales cannot have; expected float32, float16, bfloat16 or float8_e4m3");
  }

  void ReadScaleTable() {
    q_.table_group = entry_.table_group;
    if (q_.table_group < 1) Refuse("has groups of scales of an impossible size");
    q_.table_offset = Factor(entry_.table_offset, "offset of scales");
    q_.table_values = Floats(entry_.table_values, 256, "values of scales");
    q_.table_scales = Floats(entry_.table_scales, CeilDiv(scale_count_, q_.table_group), "scales of scales");
  }

  float Factor(double value, const char* what) const {
    const float factor = static_cast<float>(value);
    if (!std::isfinite(factor)) Refuse("has a " + std::string(what) + " that is no finite number");
    return factor;
  }

  void ReadZeros() {
    if (entry_.zero < 0 || entry_.zero > (int64_t{1} << q_.bits) ||
        (entry_.zero != 0 && q_.type != CodeType::kUint)) {
      Refuse("has a zero point of " + std::to_string(entry_.zero) + ", which its codes cannot have");
    }
    q_.zero = static_cast<int32_t>(entry_.zero);
    if (entry_.zeros < 0) return;
    const bool is_known = q_.type == CodeType::kUint && (q_.bits == 2 || q_.bits == 4 || q_.bits == 8) &&
                          q_.matrices == 1 && q_.group_rows == 1;
    if (!is_known) Refuse("has packed zero points, which its type of codes or groups cannot have");
    q_.zero_order = static_cast<ZeroOrder>(Choice(entry_.zero_order, kZeroOrders, "order of zero points"));
    if (q_.zero_order == ZeroOrder::kAwq && q_.bits != 4)
      Refuse("has zero points in AWQ's order, but not 4 bits");
    q_.zeros_less_one = entry_.zeros_less_one != 0;
    const int64_t words = CeilDiv(q_.rows, 32 / q_.bits) * q_.col_groups();
    q_.zeros = Sized(Part(entry_.zeros, "zero points"), words * 4, "zero points");
  }

  void ReadBiases() {
    if (entry_.biases < 0) return;
    const StoredTensor& part = Part(entry_.biases, "biases");
    if (part.type != onnx::kFloat && part.type != onnx::kFloat16 && part.type != onnx::kBFloat16)
      Refuse(part, "is of a type that biases cannot have; expected float32, float16 or bfloat16");
    q_.bias_type = static_cast<DType>(part.type);
    q_.biases = Sized(part, scale_count_ * DTypeSize(q_.bias_type), "biases");
  }

  void ReadColumnGroups() {
    if (entry_.column_groups < 0) return;
    const StoredTensor& part = Part(entry_.column_groups, "column groups");
    if (part.type != onnx::kInt32 || q_.flat() || q_.matrices != 1)
      Refuse(part, "cannot be the groups of the columns of '" + entry_.name + "'");
    const std::byte* groups = Sized(part, q_.cols * 4, "column groups");
    bool in_order = true;
    for (int64_t c = 0; c < q_.cols; ++c) {
      const int32_t group = LoadAt<int32_t>(groups, c);
      if (group < 0 || group >= q_.col_groups()) {
        Refuse(part, "puts column " + std::to_string(c) + " into group " + std::to_string(group) +
                         ", but there are " + std::to_string(q_.col_groups()) +
                         " groups; fetch the file again, and config.json with it");
      }
      in_order = in_order && group == c / q_.group_cols;
    }
    if (!in_order) q_.column_groups = groups;
  }

  const QuantizedEntry& entry_;
  const WeightStore& store_;
  QuantizedTensor q_;
  int64_t scale_count_ = 0;
};

// What a part holds, if it is of numbers: float32, float16, bfloat16 or float8.
bool IsOfFloats(const StoredTensor& part) {
  return part.type == onnx::kFloat || part.type == onnx::kFloat16 || part.type == onnx::kBFloat16 ||
         part.type == onnx::kFloat8E4m3;
}

float ValueAt(const StoredTensor& part, int64_t i) {
  if (part.type == onnx::kFloat) return LoadAt<float>(part.data, i);
  if (part.type == onnx::kFloat16) return Fp16ToFloat(LoadAt<uint16_t>(part.data, i));
  if (part.type == onnx::kBFloat16) return Bf16ToFloat(LoadAt<uint16_t>(part.data, i));
  return E4m3ToFloat(LoadAt<uint8_t>(part.data, i));
}

// Position of the first element of which some bits are all set, as the exponents of what is not finite are,
// or which, where zeros are not allowed, is zero but for its sign; -1 where there is none.
template <typename Bits>
int64_t FirstUnsound(const StoredTensor& part, Bits exponent, bool allows_zero) {
  constexpr auto kMagnitude = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);
  const auto count = static_cast<int64_t>(part.bytes / sizeof(Bits));
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = LoadAt<Bits>(part.data, i);
    if ((bits & exponent) == exponent || (!allows_zero && (bits & kMagnitude) == 0)) return i;
  }
  return -1;
}

int64_t FirstUnsound(const StoredTensor& part, bool allows_zero) {
  switch (part.type) {
    case onnx::kFloat:
      return FirstUnsound<uint32_t>(part, 0x7f800000u, allows_zero);
    case onnx::kFloat16:
      return FirstUnsound<uint16_t>(part, 0x7c00u, allows_zero);
    case onnx::kBFloat16:
      return FirstUnsound<uint16_t>(part, 0x7f80u, allows_zero);
    case onnx::kFloat8E4m3:
      return FirstUnsound<uint8_t>(part, 0x7fu, allows_zero);
    default:
      return -1;
  }
}

std::string ValueText(float value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "infinity" : "-infinity";
  char text[32];
  std::snprintf(text, sizeof text, "%g", static_cast<double>(value));
  return text;
}

constexpr char kRemedy[] =
    "; the file is damaged or was saved from a broken model: fetch it again, or take another checkpoint";

[[noreturn]] void RefuseValue(const StoredTensor& part, float value, int64_t at) {
  const std::string what = std::isfinite(value)
                               ? "has a scale of " + ValueText(value)
                               : "has a value that is no finite number, " + ValueText(value) + ",";
  throw WeightFileError(part.file->path() + ": tensor '" + part.name + "' " + what + " at place " +
                        std::to_string(at) + kRemedy);
}

// The largest that a scale as stored can be, where its type bounds it: what multiplies all must leave it
// finite.
constexpr float kLargestE4m3 = 448.0f;

void CheckFactors(const WeightStore& store, const StoredTensor& tensor) {
  const QuantizedTensor& q = *tensor.quantized;
  const float largest = q.scale_type == ScaleType::kE4m3 ? kLargestE4m3 : 1.0f;
  if (std::isfinite(largest * CommonMultiplier(q) / CommonDivisor(q))) return;
  if (tensor.factors.empty())
    throw WeightFileError(tensor.file->path() + ": the scales of '" + tensor.name +
                          "' are multiplied or divided by what leaves no finite number" + kRemedy);
  const StoredTensor& part = store.Get(tensor.factors.front());
  throw WeightFileError(part.file->path() + ": tensor '" + part.name + "' is " + ValueText(ValueAt(part, 0)) +
                        ", with which the scales of '" + tensor.name + "' are no finite numbers" + kRemedy);
}

}  // namespace

QuantizedTensor JoinParts(const QuantizedEntry& entry, const WeightStore& store) {
  return Parts(entry, store).Join();
}

void CheckScales(const WeightStore& store, const StoredTensor& tensor, bool allows_zero) {
  const QuantizedTensor& q = *tensor.quantized;
  for (const int64_t handle : tensor.parts) {
    const StoredTensor& part = store.Get(handle);
    if (part.data == q.codes) continue;
    const bool is_scales = part.data == q.scales;
    if (IsOfFloats(part)) {
      const int64_t at = FirstUnsound(part, allows_zero || !is_scales);
      if (at >= 0) RefuseValue(part, ValueAt(part, at), at);
    } else if (is_scales && q.scale_type == ScaleType::kExponent) {
      const void* nan = std::memchr(part.data, 0xff, part.bytes);
      if (nan != nullptr)
        RefuseValue(part, ExponentToFloat(0xff), static_cast<const std::byte*>(nan) - part.data);
    }
  }
  CheckFactors(store, tensor);
}

}  // namespace switchyard
