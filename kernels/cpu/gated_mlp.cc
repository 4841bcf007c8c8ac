#include <algorithm>
#include <vector>

#include "arch/isa.h"
#include "expert_runs.h"
#include "output_scales.h"
#include "parallel.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

// Tokens are taken in chunks whose scratch stays below this.
constexpr int64_t kScratchBytes = 64 << 20;

constexpr int64_t kInlineValues = 64 * 1024;

}  // namespace

void GatedMlp(const GatedMlpArgs& args, Workspace& workspace, ThreadPool& pool) {
  const int64_t hidden = args.gate.cols;
  const ExpertWeights weights = {args.gate, args.up, args.down};
  const int64_t most =
      std::max<int64_t>(kTileTokens, kScratchBytes / ExpertScratchBytes(hidden, args.gate.rows));
  for (int64_t first = 0; first < args.tokens; first += most) {
    const int64_t tokens = std::min(most, args.tokens - first);
    const float* x = args.x + first * hidden;
    float* y = args.y + first * hidden;
    const std::vector<float> scales =
        OutputScales(args.output_gate, x, tokens, args.precision, workspace, pool);
    workspace.Reset();
    const ExpertRun run = {&weights, 0, tokens};
    RunExperts({x, nullptr, &run, 1, args.precision, y}, workspace, pool);
    if (scales.empty()) continue;
    const auto scale = [&](int64_t, int64_t t) {
      Kernels().scale_add(y + t * hidden, scales[static_cast<size_t>(t)], hidden, y + t * hidden, false);
    };
    if (tokens * hidden <= kInlineValues) {
      for (int64_t t = 0; t < tokens; ++t) scale(0, t);
    } else {
      ParallelItems(pool, tokens, scale);
    }
  }
}

}  // namespace switchyard::cpu
