// Op TopCandidates: the highest of the logits [rows, vocab], as many of each row as its scalar input `count`
// says on every run: values and int32 ids [rows, count], best first.
#pragma once
#include <string>

#include "op.h"

namespace switchyard::ops {

struct TopCandidates {
  // What the inputs of one run say.
  struct Sizes {
    int64_t rows, vocab, count;
  };
  static OpSchema Schema();
  // Throws std::runtime_error beginning with `node` unless the inputs fit; `most` bounds count.
  static Sizes CheckInputs(const std::string& node, const KernelContext& context, int64_t most);
};

}  // namespace switchyard::ops
