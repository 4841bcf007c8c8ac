// Products of integer codes with activations that are rounded to int8 in blocks: where they are possible, and
// how a block of rows gets ready for them.
#pragma once
#include <cstdint>

#include "../../common/quantized.h"
#include "../../common/types.h"
#include "../arch/isa.h"

namespace switchyard::cpu {

// How a matrix of codes meets rounded activations. A weight is (code - offset) * scale + offset term, for
// codes as the kernels read them (see IntegerKernels), after `factor` is taken into the scale.
struct IntegerForm {
  bool possible = false;
  IntegerOrder order = IntegerOrder::kNatural;
  int32_t offset = 0;
  bool has_offsets = false;         // zero points or biases of each group
  uint8_t flip = 0;                 // turns a byte into a code
  const uint8_t* values = nullptr;  // [16], the codes that nibbles stand for; null: themselves
  float factor = 1.0f;

  static IntegerForm Of(const KernelTable& table, const WeightMatrix& weights, Precision precision);
};

// Rounds values for depths [k0, k0 + n) of one token, at `x`; k0 is a multiple of a block, and so is n unless
// it reaches the end.
void StoreInteger(const KernelTable& table, const IntegerForm& form, const float* values, int64_t depth,
                  int64_t k0, int64_t n, char* x);

// Rows [row0, row1) of a matrix of codes, ready to meet rounded activations of `tokens` tokens: for one token
// they are read where they lie, for more they are laid side by side first, once.
class IntegerBlock {
 public:
  static int64_t Scratch(const WeightMatrix& weights, int64_t rows, int64_t tokens);

  IntegerBlock() = default;
  IntegerBlock(const KernelTable& table, const IntegerForm& form, const WeightMatrix& weights, int64_t tokens,
               int64_t row0, int64_t row1, char* scratch);

  // c[t * c_stride + r - first] = x[t] . row r, for rows [first, last) of the block, of which `first` is a
  // multiple of kIntegerPanelRows.
  void Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c, int64_t c_stride) const;

 private:
  void MultiplyRows(const char* x, int64_t first, int64_t last, float* c) const;
  void MultiplyColumns(const char* x, int64_t first, int64_t last, float* c) const;
  void LayOut();
  void TurnWords(const char* rows, int64_t stride, int64_t count, char* out) const;

  const KernelTable* table_ = nullptr;
  IntegerForm form_;
  const WeightMatrix* weights_ = nullptr;
  bool in_place_ = false;
  int64_t row0_ = 0, row1_ = 0;
  char* panel_ = nullptr;
  float* scales_ = nullptr;  // of the panel, [panels][groups][kIntegerPanelRows]
  float* offsets_ = nullptr;
  char* scratch_ = nullptr;
};

}  // namespace switchyard::cpu
