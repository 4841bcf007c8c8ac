// The three executions of a mixture of experts. All run the same block kernels; they differ in what forms a
// run: one expert at a time (eager), one token-expert pair (batched_mm), or all experts side by side
// (grouped_mm).
#include <algorithm>
#include <numeric>
#include <vector>

#include "arch/isa.h"
#include "expert_runs.h"
#include "output_scales.h"
#include "parallel.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

// Tokens are taken in chunks whose scratch stays below this.
constexpr int64_t kScratchBytes = 96 << 20;

// Up to so many values, summing on the calling thread beats waking the others.
constexpr int64_t kInlineValues = 64 * 1024;

// Token-expert pairs sorted by expert, those of late ones last, group by group; pair p is choice p % top_k of
// token p / top_k. Before them may stand all tokens, for a shared expert.
struct SortedPairs {
  int64_t first;      // position of the first pair
  int64_t count;      // positions
  int32_t* pair;      // [count] the pair at each position
  int32_t* token;     // [count] the token at each position
  int32_t* position;  // [pairs] where each pair went
  int64_t* starts;    // [num_experts] first position of each expert
  int64_t* counts;    // [num_experts] pairs of it
  int64_t* ends;      // [LateGroups + 1] of the positions of experts that are there, and of each late group
};

int32_t LateGroups(const MoeExpertsArgs& args) { return args.late == nullptr ? 0 : args.late->groups; }

int32_t LateGroup(const MoeExpertsArgs& args, int64_t expert) {
  return args.late == nullptr ? 0 : args.late->group[expert];
}

// Leaves the first `first` positions to the tokens of the same numbers.
SortedPairs SortByExpert(const MoeExpertsArgs& args, int64_t first, Workspace& workspace) {
  const int64_t pairs = args.tokens * args.top_k;
  const int64_t count = first + pairs;
  SortedPairs sorted{first,
                     count,
                     workspace.Take<int32_t>(count),
                     workspace.Take<int32_t>(count),
                     workspace.Take<int32_t>(pairs),
                     workspace.Take<int64_t>(args.num_experts),
                     workspace.Take<int64_t>(args.num_experts),
                     workspace.Take<int64_t>(LateGroups(args) + 1)};
  std::iota(sorted.token, sorted.token + first, 0);
  std::fill_n(sorted.counts, args.num_experts, 0);
  for (int64_t p = 0; p < pairs; ++p) ++sorted.counts[args.indices[p]];
  int64_t end = first;
  for (int32_t group = 0; group <= LateGroups(args); ++group) {
    for (int64_t e = 0; e < args.num_experts; ++e) {
      if (LateGroup(args, e) != group) continue;
      sorted.starts[e] = end;
      end += sorted.counts[e];
    }
    sorted.ends[group] = end;
  }
  int64_t* next = workspace.Take<int64_t>(args.num_experts);
  std::copy_n(sorted.starts, args.num_experts, next);
  for (int64_t p = 0; p < pairs; ++p) {
    const int64_t at = next[args.indices[p]]++;
    sorted.pair[at] = static_cast<int32_t>(p);
    sorted.token[at] = static_cast<int32_t>(p / args.top_k);
    sorted.position[p] = static_cast<int32_t>(at);
  }
  return sorted;
}

// Calls body(slot, i) for each i in [0, count), which read so many values in all.
template <typename Body>
void ForEach(int64_t count, int64_t values, ThreadPool& pool, const Body& body) {
  if (values > kInlineValues) return ParallelItems(pool, count, body);
  for (int64_t i = 0; i < count; ++i) body(int64_t{0}, i);
}

// What a shared expert has to say: out[t] for token t, and how much it counts.
struct SharedOutput {
  float* out = nullptr;       // null: there is none
  std::vector<float> scales;  // empty: 1
};

// Adds to y[t], or sets it. The scaled value is rounded before the addition, as where an op of its own gives
// it.
void AddShared(const MoeExpertsArgs& args, const SharedOutput& shared, int64_t t, bool add) {
  if (shared.out == nullptr) return;
  float* of_token = shared.out + t * args.hidden;
  if (!shared.scales.empty())
    Kernels().scale_add(of_token, shared.scales[static_cast<size_t>(t)], args.hidden, of_token, false);
  Kernels().scale_add(of_token, 1.0f, args.hidden, args.y + t * args.hidden, add);
}

// y[t] = sum over j of weights[t, j] * out[position of (t, j)], in the order of j, and what is shared.
void SumOverChoices(const MoeExpertsArgs& args, const SortedPairs& sorted, const float* out,
                    const SharedOutput& shared, ThreadPool& pool) {
  ForEach(args.tokens, sorted.count * args.hidden, pool, [&](int64_t, int64_t t) {
    for (int64_t j = 0; j < args.top_k; ++j) {
      const int64_t p = t * args.top_k + j;
      Kernels().scale_add(out + sorted.position[p] * args.hidden, args.weights[p], args.hidden,
                          args.y + t * args.hidden, j > 0);
    }
    AddShared(args, shared, t, args.top_k > 0);
  });
}

// y[token] += weight * out for one expert's positions. A token may choose the expert more than once; its
// positions are neighbours and stay with one thread.
void AccumulateRun(const MoeExpertsArgs& args, const SortedPairs& sorted, int64_t first, int64_t count,
                   const float* out, ThreadPool& pool) {
  const int32_t* token = sorted.token + first;
  ForEach(count, count * args.hidden, pool, [&](int64_t, int64_t i) {
    if (i > 0 && token[i - 1] == token[i]) return;
    for (int64_t j = i; j < count && token[j] == token[i]; ++j) {
      Kernels().scale_add(out + j * args.hidden, args.weights[sorted.pair[first + j]], args.hidden,
                          args.y + token[j] * args.hidden, true);
    }
  });
}

void Eager(const MoeExpertsArgs& args, SharedOutput& shared, Workspace& workspace, ThreadPool& pool) {
  const SortedPairs sorted = SortByExpert(args, 0, workspace);
  std::fill_n(args.y, args.tokens * args.hidden, 0.0f);
  for (int64_t e = 0; e < args.num_experts; ++e) {
    const int64_t first = sorted.starts[e];
    const int64_t count = sorted.counts[e];
    if (count == 0) continue;
    const Workspace::Mark mark = workspace.mark();
    float* out = workspace.Take<float>(count * args.hidden);
    const ExpertRun run = {&args.experts[e], 0, count};
    RunExperts({args.x, sorted.token + first, &run, 1, args.precision, out}, workspace, pool);
    AccumulateRun(args, sorted, first, count, out, pool);
    workspace.Rewind(mark);
  }
  if (args.shared == nullptr) return;
  shared.out = workspace.Take<float>(args.tokens * args.hidden);
  const ExpertRun run = {&args.shared->weights, 0, args.tokens};
  RunExperts({args.x, nullptr, &run, 1, args.precision, shared.out}, workspace, pool);
  ForEach(args.tokens, args.tokens * args.hidden, pool,
          [&](int64_t, int64_t t) { AddShared(args, shared, t, true); });
}

// Where the pairs of backends begin that run a shared expert beside the others.
int64_t FirstPair(const MoeExpertsArgs& args) { return args.shared != nullptr ? args.tokens : 0; }

// Runs the experts that are there while others arrive, and each group of these while the next ones do.
// runs[0] is the shared expert, if there is one: some threads begin with it, and others with the last of the
// runs.
void RunAndSum(const MoeExpertsArgs& args, const SortedPairs& sorted, SharedOutput& shared, ExpertRun* runs,
               int64_t run_count, Workspace& workspace, ThreadPool& pool) {
  float* out = workspace.Take<float>(sorted.count * args.hidden);
  FetchFrom from = FetchFrom::kStart;
  if (args.shared != nullptr) {
    runs[0] = {&args.shared->weights, 0, args.tokens};
    shared.out = out;
    from = FetchFrom::kBothEnds;
  }
  int64_t run = 0, first = 0;
  for (int32_t group = 0; group <= LateGroups(args); ++group) {
    if (group > 0) args.late->arrive(args.late->state);
    int64_t run_end = run;
    for (; run_end < run_count && runs[run_end].first < sorted.ends[group]; ++run_end)
      runs[run_end].first -= first;
    RunExperts({args.x, sorted.token + first, runs + run, run_end - run, args.precision,
                out + first * args.hidden, group == 0 ? from : FetchFrom::kStart},
               workspace, pool);
    run = run_end;
    first = sorted.ends[group];
  }
  SumOverChoices(args, sorted, out, shared, pool);
}

void BatchedMm(const MoeExpertsArgs& args, SharedOutput& shared, Workspace& workspace, ThreadPool& pool) {
  // Every pair streams its expert's weights for itself. Pairs of one expert are neighbours, so that later
  // ones may find the weights in a cache.
  const SortedPairs sorted = SortByExpert(args, FirstPair(args), workspace);
  ExpertRun* runs = workspace.Take<ExpertRun>(sorted.count + 1);
  int64_t run_count = args.shared != nullptr ? 1 : 0;
  for (int64_t i = sorted.first; i < sorted.count; ++i)
    runs[run_count++] = {&args.experts[args.indices[sorted.pair[i]]], i, 1};
  RunAndSum(args, sorted, shared, runs, run_count, workspace, pool);
}

void GroupedMm(const MoeExpertsArgs& args, SharedOutput& shared, Workspace& workspace, ThreadPool& pool) {
  const SortedPairs sorted = SortByExpert(args, FirstPair(args), workspace);
  ExpertRun* runs = workspace.Take<ExpertRun>(args.num_experts + 1);
  int64_t run_count = args.shared != nullptr ? 1 : 0;
  for (int32_t group = 0; group <= LateGroups(args); ++group) {
    for (int64_t e = 0; e < args.num_experts; ++e) {
      if (sorted.counts[e] == 0 || LateGroup(args, e) != group) continue;
      runs[run_count++] = {&args.experts[e], sorted.starts[e], sorted.counts[e]};
    }
  }
  RunAndSum(args, sorted, shared, runs, run_count, workspace, pool);
}

void RunChunk(MoeExpertsArgs args, Workspace& workspace, ThreadPool& pool) {
  // Its sums grow in the order of the experts.
  if (args.implementation == ExpertsImplementation::kEager && args.late != nullptr) {
    for (int32_t group = 0; group < args.late->groups; ++group) args.late->arrive(args.late->state);
    args.late = nullptr;
  }
  SharedOutput shared;
  if (args.shared != nullptr)
    shared.scales =
        OutputScales(args.shared->output_gate, args.x, args.tokens, args.precision, workspace, pool);
  workspace.Reset();
  switch (args.implementation) {
    case ExpertsImplementation::kEager:
      return Eager(args, shared, workspace, pool);
    case ExpertsImplementation::kBatchedMm:
      return BatchedMm(args, shared, workspace, pool);
    case ExpertsImplementation::kGroupedMm:
      return GroupedMm(args, shared, workspace, pool);
  }
}

}  // namespace

void MoeExperts(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool) {
  const auto bytes = [&](int64_t intermediate) {
    return ExpertScratchBytes(args.hidden, intermediate) + args.hidden * static_cast<int64_t>(sizeof(float));
  };
  const int64_t token_bytes = bytes(args.intermediate) * args.top_k +
                              (args.shared != nullptr ? bytes(args.shared->weights.gate.rows) : 0);
  const int64_t most = std::max<int64_t>(kTileTokens, kScratchBytes / token_bytes);
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
    if (t > 0) part.late = nullptr;
    RunChunk(part, workspace, pool);
  }
}

}  // namespace switchyard::cpu
