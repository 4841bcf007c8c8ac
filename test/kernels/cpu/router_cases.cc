// The router: logits, choices and weights.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../../../kernels/cpu/workspace.h"
#include "testing_weights.h"

namespace switchyard::cpu {
namespace {

void CheckRoute(const RouterArgs& args, const std::string& what) {
  const int64_t experts = args.weight.rows;
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float* logits = args.logits + t * experts;
    std::vector<int32_t> order(static_cast<size_t>(experts));
    for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    double sum = 0.0;
    double chosen = 0.0;
    for (int64_t e = 0; e < experts; ++e) sum += std::exp(static_cast<double>(logits[e]) - logits[order[0]]);
    for (int j = 0; j < args.top_k; ++j)
      chosen += std::exp(static_cast<double>(logits[order[static_cast<size_t>(j)]]) - logits[order[0]]);
    for (int j = 0; j < args.top_k; ++j) {
      const int32_t e = order[static_cast<size_t>(j)];
      const double weight =
          std::exp(static_cast<double>(logits[e]) - logits[order[0]]) / (args.normalize ? chosen : sum);
      const int64_t p = t * args.top_k + j;
      if (args.indices[p] != e)
        Fail("%s: choice %d of token %lld is %d, expected %d", what.c_str(), j, static_cast<long long>(t),
             args.indices[p], e);
      if (!(std::fabs(args.weights[p] - weight) <= 2e-6 * weight + 1e-12)) {
        Fail("%s: weight %d of token %lld is %g, expected %g", what.c_str(), j, static_cast<long long>(t),
             static_cast<double>(args.weights[p]), weight);
      }
    }
  }
}

void RouterValues() {
  Random random(9);
  Workspace workspace;
  for (int round = 0; round < 40; ++round) {
    const int64_t tokens = random.Int(1, 40);
    const int64_t experts = random.Int(1, 130);
    const int64_t hidden = random.Int(1, 200);
    const int top_k = static_cast<int>(random.Int(1, std::min<int64_t>(experts, 9)));
    const DType dtype = kAllDTypes[round % 3];
    Weights weights(random, experts, hidden, dtype, random.Int(0, 3) == 0, 0.5f, round % 4);
    const std::vector<float> x = random.Normals(tokens * hidden);
    TestPool pool(static_cast<int>(random.Int(1, 4)));
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      Output logits(tokens * experts), mix(tokens * top_k);
      std::vector<int32_t> indices(static_cast<size_t>(tokens * top_k), -1);
      const RouterArgs args = {x.data(),       tokens,         weights.matrix(),
                               top_k,          round % 2 == 0, logits.data(),
                               indices.data(), mix.data(),     kAllPrecisions[round % 2]};
      Router(args, workspace, pool);
      const std::string what =
          Describe("Router", weights.matrix(), tokens, args.precision, pool.NumThreads());
      logits.CheckGuards(what);
      mix.CheckGuards(what);
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
        for (int64_t e = 0; e < experts; ++e) {
          double magnitude = 0.0;
          const double expected = weights.Dot(e, row.data(), Precision::kFloat32, &magnitude);
          if (!(std::fabs(logits[t * experts + e] - expected) <= 1e-6 * magnitude + 1e-7)) {
            Fail("%s: logit is %g, expected %g", what.c_str(), static_cast<double>(logits[t * experts + e]),
                 expected);
          }
        }
      }
      CheckRoute(args, what);
    }
  }
}

// Equal logits: the lower expert comes first.
void RouterTies() {
  Workspace workspace;
  TestPool pool(1);
  const std::vector<float> weight = {1, 2, 2, 0, 2, 1, 3};
  const float x[] = {1.0f, 0.0f};
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Output logits(14), mix(12);
    int32_t indices[12];
    Router({x,
            2,
            {weight.data(), DType::kFloat32, 7, 1, 1, false},
            6,
            true,
            logits.data(),
            indices,
            mix.data(),
            Precision::kFloat32},
           workspace, pool);
    const int32_t expected[] = {6, 1, 2, 4, 0, 5, 0, 1, 2, 3, 4, 5};
    if (std::memcmp(indices, expected, sizeof(expected)) != 0)
      Fail("[%s] ties do not go to the lower expert", isa);
  }
}

}  // namespace

std::vector<Group> RouterGroups() {
  return {
      {"router: logits, choices and weights", RouterValues},
      {"router: ties go to the lower expert", RouterTies},
  };
}

}  // namespace switchyard::cpu
