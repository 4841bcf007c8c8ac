// The router against plain loops.
#include <limits>

#include "../../../kernels/cuda/kernels.h"
#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::Tensor;

struct Chosen {
  std::vector<int> indices;
  std::vector<double> weights;
};

Chosen ReferenceTopK(const std::vector<double>& logits, int top_k, bool normalize) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0.0;
  for (const double logit : logits) total += std::exp(logit - largest);
  std::vector<int> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  Chosen chosen;
  double sum = 0.0;
  for (int i = 0; i < top_k; ++i) {
    chosen.indices.push_back(order[i]);
    chosen.weights.push_back(std::exp(logits[order[i]] - largest) / total);
    sum += chosen.weights.back();
  }
  for (double& weight : chosen.weights) weight /= normalize ? sum : 1.0;
  return chosen;
}

// Unrounded inputs give what rounded ones gave, or are refused.
void CheckRouterRounds(GemmContext& gemm, RouterArgs args, const Tensor& unrounded) {
  const size_t bytes = args.tokens * args.num_experts * 4, chosen = args.tokens * args.top_k * 4;
  const Guarded logits(bytes, 4), indices(chosen, 4), weights(chosen, 4);
  const RouterArgs rounded = args;
  args.x = unrounded.memory.data();
  args.float32_inputs = true;
  args.logits = logits.As<float>();
  args.indices = indices.As<int32_t>();
  args.weights = weights.As<float>();
  const bool taken = args.dtype == DType::kFloat32 || args.tokens <= kMostTokensRouterRounds;
  EXPECT(LaunchRouter(gemm, args, nullptr) == (taken ? cudaSuccess : cudaErrorInvalidValue), "%d tokens",
         static_cast<int>(args.tokens));
  if (!taken) return;
  EXPECT(std::memcmp(logits.data(), rounded.logits, bytes) == 0, "logits of unrounded inputs");
  EXPECT(std::memcmp(indices.data(), rounded.indices, chosen) == 0, "choice of unrounded inputs");
  EXPECT(std::memcmp(weights.data(), rounded.weights, chosen) == 0, "weights of unrounded inputs");
}

}  // namespace

// Logits are multiples of 1/4, so that many are equal and the lower index must win.
void TopKChoosesAsTheReference() {
  for (const int experts : {1, 8, 60, 128, 130, 512}) {
    for (const bool normalize : {false, true}) {
      const int tokens = 11;
      const int top_k = std::min(8, experts);
      const Guarded logits(tokens * experts * 4, 4), indices(tokens * top_k * 4, 4),
          weights(tokens * top_k * 4, 4);
      for (int i = 0; i < tokens * experts; ++i) logits.As<float>()[i] = testing::RandomInt(-12, 12) * 0.25f;
      const RouterTopKArgs args = {
          logits.data(),         DType::kFloat32,    tokens, experts, top_k, normalize,
          indices.As<int32_t>(), weights.As<float>()};
      EXPECT(LaunchRouterTopK(args, nullptr) == cudaSuccess, "%d experts", experts);
      for (int t = 0; t < tokens; ++t) {
        const float* row = logits.As<float>() + t * experts;
        const Chosen chosen = ReferenceTopK({row, row + experts}, top_k, normalize);
        EXPECT(std::equal(chosen.indices.begin(), chosen.indices.end(), args.indices + t * top_k), "token %d",
               t);
        ExpectClose(args.weights + t * top_k, DType::kFloat32, chosen.weights, 2e-6, "weights");
      }
    }
  }
}

void TopKOfNanIsInRange() {
  const int experts = 60, top_k = 4;
  std::vector<float> logits(experts, std::numeric_limits<float>::quiet_NaN());
  std::vector<int32_t> indices(top_k, -1);
  std::vector<float> weights(top_k);
  const RouterTopKArgs args = {logits.data(),  DType::kFloat32, 1, experts, top_k, true,
                               indices.data(), weights.data()};
  EXPECT(LaunchRouterTopK(args, nullptr) == cudaSuccess, "launch");
  EXPECT((indices == std::vector<int32_t>{0, 1, 2, 3}), "%d %d %d %d", indices[0], indices[1], indices[2],
         indices[3]);
}

// Logits of few tokens, of rows that do not start on 16 bytes, and of many, against the same reference.
void RouterMatchesTheReference() {
  GemmContext* gemm = nullptr;
  EXPECT(CreateGemmContext(&gemm) == cudaSuccess, "context");
  for (const DType dtype : kTypes) {
    for (const int tokens : {1, 3, 20, 40}) {
      const int experts = tokens == 20 ? 200 : 60, hidden = tokens == 3 ? 37 : 72, top_k = 4;
      const Tensor unrounded(DType::kFloat32, int64_t{1} * tokens * hidden, 1.0f),
          x = testing::RoundedTo(dtype, unrounded), weight(dtype, int64_t{1} * experts * hidden, 1.0f);
      const Guarded logits(tokens * experts * 4, 4), indices(tokens * top_k * 4, 4),
          weights(tokens * top_k * 4, 4);
      RouterArgs args = {dtype,
                         x.memory.data(),
                         tokens,
                         weight.memory.data(),
                         experts,
                         hidden,
                         top_k,
                         true,
                         logits.As<float>(),
                         indices.As<int32_t>(),
                         weights.As<float>(),
                         false};
      EXPECT(LaunchRouter(*gemm, args, nullptr) == cudaSuccess, "%d tokens", tokens);
      CheckRouterRounds(*gemm, args, unrounded);
      for (int t = 0; t < tokens; ++t) {
        std::vector<double> row(experts, 0.0);
        for (int e = 0; e < experts; ++e) {
          for (int h = 0; h < hidden; ++h)
            row[e] += double{x.values[t * hidden + h]} * weight.values[e * hidden + h];
        }
        ExpectClose(args.logits + t * experts, DType::kFloat32, row, 2e-6, "logits");
        const float* computed = args.logits + t * experts;
        const Chosen chosen = ReferenceTopK({computed, computed + experts}, top_k, true);
        EXPECT(std::equal(chosen.indices.begin(), chosen.indices.end(), args.indices + t * top_k), "token %d",
               t);
        ExpectClose(args.weights + t * top_k, DType::kFloat32, chosen.weights, 2e-6, "weights");
      }
    }
  }
  DestroyGemmContext(gemm);
}
