// Products of a few tokens with codes that are expanded in registers, without a panel in between.
#pragma once
#include <cstdint>

#include "../../common/types.h"
#include "../arch/isa.h"

namespace switchyard::cpu {

// Rows [row0, row1) of a matrix of codes, to meet at most kTileTokens tokens.
class DirectBlock {
 public:
  // Whether a matrix's codes and groups are of a form that kernels multiply so.
  static bool IsPossible(const KernelTable& table, const WeightMatrix& weights, Precision precision,
                         int64_t tokens);
  static int64_t Scratch(const WeightMatrix& weights);

  DirectBlock() = default;
  DirectBlock(const CodeProducts& kernels, const KernelTable& table, const WeightMatrix& weights,
              int64_t row0, char* scratch);

  // c[t * c_stride + r - first] = x[t] . row r, for rows [first, last) of the block.
  void Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c, int64_t c_stride) const;

 private:
  // What multiplies rows [first, last) in the words they lie in; null: they are brought into rows first.
  CodeWordsFn WordsKernel(int64_t first, int64_t last) const;
  void MultiplyWords(CodeWordsFn kernel, const char* x, int tokens, int64_t first, int64_t last, float* c,
                     int64_t c_stride) const;

  const CodeProducts* kernels_ = nullptr;
  const KernelTable* table_ = nullptr;
  const WeightMatrix* weights_ = nullptr;
  int64_t row0_ = 0;
  char* scratch_ = nullptr;
};

}  // namespace switchyard::cpu
