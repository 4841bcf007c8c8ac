// Op TopCandidates: the highest of the logits [rows, vocab], as many of each row as its scalar input `count`
// says on every run: values and int32 ids [rows, count], best first.
#pragma once
#include <string>

#include "session_context.h"

namespace switchyard::ops {

class TopCandidates {
 public:
  static const OpSchema kSchema;
  TopCandidates(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  int64_t ReadCount(const ort::TensorView& count, int64_t vocab) const;

  SessionContext& session_;
  std::string node_;
};

}  // namespace switchyard::ops
