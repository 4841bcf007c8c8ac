#include <algorithm>

#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Below so many logits, the calling thread does the softmax alone.
constexpr int64_t kInlineLogits = 4096;

// The top_k largest, best first, ties to the lower expert. Logits are compared, not probabilities: they order
// the same way, and two logits that round to one probability keep their order.
void ChooseExperts(const float* logits, int64_t experts, int top_k, int32_t* chosen) {
  int count = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (count == top_k && !(logits[e] > logits[chosen[top_k - 1]])) continue;
    int at = count < top_k ? count++ : top_k - 1;
    for (; at > 0 && logits[e] > logits[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = static_cast<int32_t>(e);
  }
}

void RouteToken(const RouterArgs& args, int64_t t, float* exponentials) {
  const int64_t experts = args.weight.rows;
  const float* logits = args.logits + t * experts;
  int32_t* indices = args.indices + t * args.top_k;
  float* weights = args.weights + t * args.top_k;
  float chosen_sum = 0.0f;
  const float sum =
      Kernels().exp_sum(logits, 1.0f, *std::max_element(logits, logits + experts), experts, exponentials);
  ChooseExperts(logits, experts, args.top_k, indices);
  for (int j = 0; j < args.top_k; ++j) {
    weights[j] = exponentials[indices[j]] / sum;
    chosen_sum += weights[j];
  }
  if (!args.normalize) return;
  for (int j = 0; j < args.top_k; ++j) weights[j] /= chosen_sum;
}

}  // namespace

void Router(const RouterArgs& args, Workspace& workspace, ThreadPool& pool) {
  if (args.tokens == 0) return;
  // Always in fp32: which experts run must not hang on a rounding.
  Linear({args.x, args.tokens, &args.weight, nullptr, &args.logits, 1, Precision::kFloat32}, workspace, pool);
  workspace.Reset();
  const int64_t experts = args.weight.rows;
  float* exponentials = workspace.Take<float>(experts * pool.NumThreads());
  const auto route = [&](int64_t slot, int64_t t) { RouteToken(args, t, exponentials + slot * experts); };
  if (args.tokens * experts <= kInlineLogits) {
    for (int64_t t = 0; t < args.tokens; ++t) route(0, t);
  } else {
    ParallelItems(pool, args.tokens, route);
  }
}

}  // namespace switchyard::cpu
