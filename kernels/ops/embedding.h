// Op Embedding: rows of a stored table [V, H] for int64 ids […], widened to fp32 […, H].
#pragma once
#include <string>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

class Embedding {
 public:
  static const OpSchema kSchema;
  Embedding(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  EmbeddingAttributes attributes_;
};

}  // namespace switchyard::ops
