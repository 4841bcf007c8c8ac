// The gated delta rule over many tokens of one row and value head.
#pragma once
#include <cstdint>

#include "arch/isa.h"

namespace switchyard::cpu {

// Does what KernelTable::delta_steps does, in chunks of tokens whose work is products of matrices (Yang et
// al. 2024, arXiv:2412.06464, section 3.3): within a chunk, what each token adds to the state depends on what
// those before it added, which is a triangular system. All of it is fp32.
class DeltaChunks {
 public:
  // Up to so many tokens, the steps are no slower.
  static constexpr int64_t kStepTokens = 8;

  DeltaChunks(const KernelTable& table, int64_t key_dim, int64_t value_dim);

  // Floats that Run needs.
  int64_t ScratchFloats() const;
  void Run(const DeltaArgs& args, float* scratch) const;

 private:
  struct Scratch;
  Scratch Cut(float* scratch) const;
  // Tokens [first, first + tokens) of args, which begin and end with scratch.state.
  void Chunk(const DeltaArgs& args, int64_t first, int64_t tokens, const Scratch& scratch) const;
  // decays[i, j], the factor by which the state falls between tokens j and i; returns that of the whole
  // chunk.
  float Decays(const float* decay, int64_t tokens, const Scratch& scratch) const;
  // Products of keys with each other and of queries with keys, as far as a token sees others, decayed.
  void Scores(const DeltaArgs& args, int64_t first, int64_t tokens, const Scratch& scratch) const;
  // scratch.deltas from what they were without each other.
  void Solve(int64_t tokens, const Scratch& scratch) const;
  // scratch.scaled = the rows of x, each times its factor.
  void ScaleRows(const float* x, int64_t stride, const float* factors, int64_t tokens,
                 const Scratch& scratch) const;
  // The first `columns` of c[t] (+)= x[t] . w.
  struct Product {
    const float* x;
    int64_t x_stride, tokens;
    const float* w;
    int64_t w_stride, depth;
    float* c;
    int64_t c_stride, columns;
    bool accumulate;
  };
  void Multiply(const Product& product) const;

  const KernelTable& table_;
  const int64_t key_dim_, value_dim_;
  const int64_t columns_;  // value_dim, padded
};

}  // namespace switchyard::cpu
