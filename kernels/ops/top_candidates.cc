#include "top_candidates.h"

#include <limits>
#include <stdexcept>

namespace switchyard::ops {

const OpSchema TopCandidates::kSchema = {
    "TopCandidates", {{ort::kFloat}, {ort::kInt32}}, {{ort::kFloat}, {ort::kInt32}}};

TopCandidates::TopCandidates(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()) {}

int64_t TopCandidates::ReadCount(const ort::TensorView& count, int64_t vocab) const {
  if (count.Count() != 1) {
    throw std::runtime_error(node_ + ": input 'count' has shape " + ShapeText(count.shape) +
                             "; expected a scalar");
  }
  const int64_t value = *count.As<int32_t>();
  if (value >= 0 && value <= vocab) return value;
  throw std::runtime_error(node_ + ": input 'count' is " + std::to_string(value) + "; expected 0 to " +
                           std::to_string(vocab) + ", the number of logits of a row");
}

void TopCandidates::Compute(KernelContext& context) {
  const ort::TensorView logits = context.Input(0);
  if (logits.shape.size() != 2 || logits.shape[1] > std::numeric_limits<int32_t>::max()) {
    throw std::runtime_error(node_ + ": input 'logits' has shape " + ShapeText(logits.shape) +
                             "; expected [rows, vocab]");
  }
  const int64_t rows = logits.shape[0];
  const int64_t vocab = logits.shape[1];
  const int64_t count = ReadCount(context.Input(1), vocab);
  float* values = context.Output<float>(0, {rows, count});
  int32_t* ids = context.Output<int32_t>(1, {rows, count});
  if (rows == 0 || count == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::TopCandidates({.logits = logits.As<float>(),
                      .rows = rows,
                      .vocab = vocab,
                      .count = count,
                      .values = values,
                      .ids = ids},
                     *workspace, pool);
}

}  // namespace switchyard::ops
