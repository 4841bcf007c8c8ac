// The custom ops of Switchyard, as one session sees them.
#pragma once
#include <memory>

#include "../ort/library.h"
#include "session_context.h"

namespace switchyard::ops {

// The domain of every custom op; src/graph uses the same string.
constexpr const char* kDomain = "switchyard";

// Owns the op descriptions and what the session's kernels share. Must outlive the session it was added to.
class OpDomain {
 public:
  OpDomain(int threads, std::shared_ptr<const WeightStore> store);
  ~OpDomain();
  OpDomain(const OpDomain&) = delete;
  OpDomain& operator=(const OpDomain&) = delete;

  ort::OrtCustomOpDomain* get() const { return domain_.get(); }

 private:
  struct Ops;
  SessionContext context_;
  std::unique_ptr<Ops> ops_;
  ort::DomainPtr domain_;
};

}  // namespace switchyard::ops
