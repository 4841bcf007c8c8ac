// The three executions of a mixture of experts. All run the same block kernels; they differ in what forms a
// run: one expert at a time (eager), one token-expert pair (batched_mm), or all experts side by side
// (grouped_mm).
#include <algorithm>

#include "arch/isa.h"
#include "expert_runs.h"
#include "parallel.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

// Tokens are taken in chunks whose scratch stays below this.
constexpr int64_t kScratchBytes = 96 << 20;

// Below so many values, summing on the calling thread beats waking the others.
constexpr int64_t kInlineValues = 64 * 1024;

// Token-expert pairs sorted by expert; pair p is choice p % top_k of token p / top_k.
struct SortedPairs {
  int64_t count;
  int32_t* pair;      // [count] the pair at each position
  int32_t* token;     // [count] its token
  int32_t* position;  // [count] where each pair went
  int64_t* starts;    // [num_experts + 1] first position of each expert
};

SortedPairs SortByExpert(const MoeExpertsArgs& args, Workspace& workspace) {
  const int64_t count = args.tokens * args.top_k;
  SortedPairs sorted{count, workspace.Take<int32_t>(count), workspace.Take<int32_t>(count),
                     workspace.Take<int32_t>(count), workspace.Take<int64_t>(args.num_experts + 1)};
  int64_t* next = workspace.Take<int64_t>(args.num_experts + 1);
  std::fill_n(next, args.num_experts + 1, 0);
  for (int64_t p = 0; p < count; ++p) ++next[args.indices[p] + 1];
  for (int64_t e = 0; e < args.num_experts; ++e) next[e + 1] += next[e];
  std::copy_n(next, args.num_experts + 1, sorted.starts);
  for (int64_t p = 0; p < count; ++p) {
    const int64_t at = next[args.indices[p]]++;
    sorted.pair[at] = static_cast<int32_t>(p);
    sorted.token[at] = static_cast<int32_t>(p / args.top_k);
    sorted.position[p] = static_cast<int32_t>(at);
  }
  return sorted;
}

// y[t] = sum over j of weights[t, j] * out[position of (t, j)], in the order of j.
void SumOverChoices(const MoeExpertsArgs& args, const SortedPairs& sorted, const float* out,
                    ThreadPool& pool) {
  const auto sum = [&](int64_t, int64_t t) {
    for (int64_t j = 0; j < args.top_k; ++j) {
      const int64_t p = t * args.top_k + j;
      Kernels().scale_add(out + sorted.position[p] * args.hidden, args.weights[p], args.hidden,
                          args.y + t * args.hidden, j > 0);
    }
  };
  if (sorted.count * args.hidden <= kInlineValues) {
    for (int64_t t = 0; t < args.tokens; ++t) sum(0, t);
  } else {
    ParallelItems(pool, args.tokens, sum);
  }
}

// y[token] += weight * out for one expert's positions. A token may choose the expert more than once; its
// positions are neighbours and stay with one thread.
void AccumulateRun(const MoeExpertsArgs& args, const SortedPairs& sorted, int64_t first, int64_t count,
                   const float* out, ThreadPool& pool) {
  const int32_t* token = sorted.token + first;
  const auto add = [&](int64_t, int64_t i) {
    if (i > 0 && token[i - 1] == token[i]) return;
    for (int64_t j = i; j < count && token[j] == token[i]; ++j) {
      Kernels().scale_add(out + j * args.hidden, args.weights[sorted.pair[first + j]], args.hidden,
                          args.y + token[j] * args.hidden, true);
    }
  };
  if (count * args.hidden <= kInlineValues) {
    for (int64_t i = 0; i < count; ++i) add(0, i);
  } else {
    ParallelItems(pool, count, add);
  }
}

void Eager(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  const SortedPairs sorted = SortByExpert(args, workspace);
  std::fill_n(args.y, args.tokens * args.hidden, 0.0f);
  for (int64_t e = 0; e < args.num_experts; ++e) {
    const int64_t first = sorted.starts[e];
    const int64_t count = sorted.starts[e + 1] - first;
    if (count == 0) continue;
    const Workspace::Mark mark = workspace.mark();
    float* out = workspace.Take<float>(count * args.hidden);
    const ExpertRun run = {&args.experts[e], 0, count};
    RunExperts({args.x, sorted.token + first, &run, 1, args.precision, out}, workspace, pool);
    AccumulateRun(args, sorted, first, count, out, pool);
    workspace.Rewind(mark);
  }
}

void RunAndSum(const MoeExpertsArgs& args, const SortedPairs& sorted, const ExpertRun* runs,
               int64_t run_count, Workspace& workspace, ThreadPool& pool) {
  float* out = workspace.Take<float>(sorted.count * args.hidden);
  RunExperts({args.x, sorted.token, runs, run_count, args.precision, out}, workspace, pool);
  SumOverChoices(args, sorted, out, pool);
}

void BatchedMm(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  // Every pair streams its expert's weights for itself. Pairs of one expert are neighbours, so that later
  // ones may find the weights in a cache.
  const SortedPairs sorted = SortByExpert(args, workspace);
  ExpertRun* runs = workspace.Take<ExpertRun>(sorted.count);
  for (int64_t i = 0; i < sorted.count; ++i) runs[i] = {&args.experts[args.indices[sorted.pair[i]]], i, 1};
  RunAndSum(args, sorted, runs, sorted.count, workspace, pool);
}

void GroupedMm(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  const SortedPairs sorted = SortByExpert(args, workspace);
  ExpertRun* runs = workspace.Take<ExpertRun>(args.num_experts);
  int64_t run_count = 0;
  for (int64_t e = 0; e < args.num_experts; ++e) {
    const int64_t count = sorted.starts[e + 1] - sorted.starts[e];
    if (count > 0) runs[run_count++] = {&args.experts[e], sorted.starts[e], count};
  }
  RunAndSum(args, sorted, runs, run_count, workspace, pool);
}

void RunChunk(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  switch (args.implementation) {
    case ExpertsImplementation::kEager:
      return Eager(args, workspace, pool);
    case ExpertsImplementation::kBatchedMm:
      return BatchedMm(args, workspace, pool);
    case ExpertsImplementation::kGroupedMm:
      return GroupedMm(args, workspace, pool);
  }
}

}  // namespace

void MoeExperts(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  const int64_t pair_bytes =
      ExpertScratchBytes(args.hidden, args.intermediate) + args.hidden * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::max<int64_t>(kTileTokens, kScratchBytes / (pair_bytes * args.top_k));
  // Chunks of equal size: a short last one would stream all weights for little work.
  const int64_t chunks = CeilDiv(args.tokens, most);
  const int64_t chunk = chunks == 0 ? 0 : CeilDiv(args.tokens, chunks);
  for (int64_t t = 0; t < args.tokens; t += chunk) {
    MoeExpertsArgs part = args;
    part.tokens = std::min(chunk, args.tokens - t);
    part.x += t * args.hidden;
    part.y += t * args.hidden;
    part.indices += t * args.top_k;
    part.weights += t * args.top_k;
    workspace.Reset();
    RunChunk(part, workspace, pool);
  }
}

}  // namespace switchyard::cpu
