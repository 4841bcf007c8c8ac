// The three executions of the experts, and the gated MLP, against double precision.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../../../kernels/cpu/workspace.h"
#include "testing_weights.h"

namespace switchyard::cpu {
namespace {

struct Expert {
  Weights gate, up, down;

  Expert(Random& random, int64_t hidden, int64_t intermediate, DType dtype, bool transposed, int shift)
      : gate(random, intermediate, hidden, dtype, transposed, Scale(hidden), shift, random.Int(0, 2)),
        up(random, intermediate, hidden, dtype, transposed, Scale(hidden), shift),
        down(random, hidden, intermediate, dtype, transposed, Scale(intermediate), shift) {}

  static float Scale(int64_t depth) { return 1.0f / std::sqrt(static_cast<float>(depth)); }

  ExpertWeights weights() const { return {gate.matrix(), up.matrix(), down.matrix()}; }

  void AddTo(const double* x, double scale, Precision precision, double* y) const {
    std::vector<double> h(static_cast<size_t>(gate.matrix().rows));
    for (size_t i = 0; i < h.size(); ++i) {
      const double g = gate.Dot(static_cast<int64_t>(i), x, precision);
      h[i] = g / (1.0 + std::exp(-g)) * up.Dot(static_cast<int64_t>(i), x, precision);
    }
    for (int64_t n = 0; n < down.matrix().rows; ++n) y[n] += scale * down.Dot(n, h.data(), precision);
  }
};

// Compares with the error a rounding of h may cause: one unit in the last place of bf16 where activations are
// rounded.
void CheckClose(const std::string& what, const Output& actual, const std::vector<double>& expected,
                bool rounded) {
  actual.CheckGuards(what);
  double square = 0.0;
  for (const double value : expected) square += value * value;
  const double rms = std::sqrt(square / static_cast<double>(std::max<size_t>(expected.size(), 1)));
  const double tolerance = (rounded ? 8e-3 : 1e-5) * rms + 1e-7;
  for (int64_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[static_cast<size_t>(i)]);
    if (!(error <= tolerance)) {
      Fail("%s: value %lld is %g, expected %g +- %g", what.c_str(), static_cast<long long>(i),
           static_cast<double>(actual[i]), expected[static_cast<size_t>(i)], tolerance);
      return;
    }
  }
}

struct MoeCase {
  int64_t tokens, experts, hidden, intermediate;
  int top_k;
  DType dtype;
  bool transposed;
  Precision precision;
  int threads;
  int shift;
};

enum class Routing { kRandom, kOneExpert, kDuplicates };

std::vector<int32_t> Route(const MoeCase& c, Routing routing, Random& random) {
  std::vector<int32_t> indices;
  for (int64_t t = 0; t < c.tokens; ++t) {
    std::vector<int32_t> all(static_cast<size_t>(c.experts));
    for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
    for (int j = 0; j < c.top_k; ++j) {
      const auto pick = static_cast<size_t>(random.Int(j, c.experts - 1));
      std::swap(all[static_cast<size_t>(j)], all[pick]);
      int32_t expert = all[static_cast<size_t>(j)];
      if (routing == Routing::kOneExpert) expert = static_cast<int32_t>((c.experts / 2 + j) % c.experts);
      if (routing == Routing::kDuplicates)
        expert = static_cast<int32_t>(random.Int(0, std::min<int64_t>(1, c.experts - 1)));
      indices.push_back(expert);
    }
  }
  return indices;
}

void CheckMoe(const MoeCase& c, Routing routing, Random& random, Workspace& workspace) {
  std::vector<Expert> experts;
  std::vector<ExpertWeights> weights;
  for (int64_t e = 0; e < c.experts; ++e) {
    experts.emplace_back(random, c.hidden, c.intermediate, c.dtype, c.transposed, c.shift);
  }
  for (const Expert& expert : experts) weights.push_back(expert.weights());
  const std::vector<float> x = random.Normals(c.tokens * c.hidden);
  const std::vector<int32_t> indices = Route(c, routing, random);
  const std::vector<float> mix = random.Normals(c.tokens * c.top_k);
  std::vector<double> expected(static_cast<size_t>(c.tokens * c.hidden));
  for (int64_t t = 0; t < c.tokens; ++t) {
    const std::vector<double> row = Doubles(x.data() + t * c.hidden, c.hidden);
    for (int j = 0; j < c.top_k; ++j) {
      const auto p = static_cast<size_t>(t * c.top_k + j);
      experts[static_cast<size_t>(indices[p])].AddTo(row.data(), mix[p], c.precision,
                                                     expected.data() + t * c.hidden);
    }
  }
  TestPool pool(c.threads);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const ExpertsImplementation implementation : kAllImplementations) {
      Output y(c.tokens * c.hidden);
      MoeExperts({x.data(), c.tokens, weights.data(), c.experts, c.hidden, c.intermediate, indices.data(),
                  mix.data(), c.top_k, implementation, y.data(), c.precision},
                 workspace, pool);
      const std::string what = Describe("MoeExperts", weights[0].gate, c.tokens, c.precision, c.threads) +
                               ", implementation " + std::to_string(static_cast<int>(implementation));
      CheckClose(what, y, expected, experts[0].gate.Rounds(c.precision));
    }
  }
}

// An expert for all tokens adds, bit for bit, what GatedMlp gives, in every implementation and whatever the
// number of threads.
void SharedBeside() {
  Random random(9);
  Workspace workspace;
  for (const DType dtype : kAllDTypes) {
    for (const int64_t tokens : {1, 7, 40}) {
      const int64_t hidden = random.Int(1, 130);
      const int64_t count = random.Int(1, 6);
      const int top_k = static_cast<int>(random.Int(0, count));
      const Precision precision = kAllPrecisions[random.Int(0, 1)];
      std::vector<Expert> experts;
      std::vector<ExpertWeights> weights;
      const int64_t intermediate = random.Int(1, 70);
      for (int64_t e = 0; e < count; ++e)
        experts.emplace_back(random, hidden, intermediate, dtype, false, static_cast<int>(e % 3));
      for (const Expert& expert : experts) weights.push_back(expert.weights());
      const Expert wide(random, hidden, random.Int(1, 300), dtype, random.Int(0, 1) == 1, 1);
      const Weights output_gate(random, 1, hidden, dtype, false, 0.3f);
      const SharedExpert shared = {wide.weights(),
                                   random.Int(0, 1) == 1 ? output_gate.matrix() : WeightMatrix{}};
      const std::vector<float> x = random.Normals(tokens * hidden);
      const MoeCase c = {tokens, count, hidden, intermediate, top_k, dtype, false, precision, 1, 0};
      const std::vector<int32_t> indices = Route(c, Routing::kRandom, random);
      const std::vector<float> mix = random.Normals(tokens * top_k);
      for (const char* isa : Isas()) {
        SelectIsa(isa);
        for (const ExpertsImplementation implementation : kAllImplementations) {
          for (const int threads : {1, 2, 3, 16}) {
            TestPool pool(threads);
            MoeExpertsArgs args = {x.data(), tokens,         weights.data(), count,
                                   hidden,   intermediate,   indices.data(), mix.data(),
                                   top_k,    implementation, nullptr,        precision};
            Output routed(tokens * hidden);
            Output added(tokens * hidden);
            Output both(tokens * hidden);
            args.y = routed.data();
            if (top_k > 0) MoeExperts(args, workspace, pool);
            GatedMlp({x.data(), tokens, wide.gate.matrix(), wide.up.matrix(), wide.down.matrix(),
                      shared.output_gate, added.data(), precision},
                     workspace, pool);
            args.y = both.data();
            args.shared = &shared;
            MoeExperts(args, workspace, pool);
            both.CheckGuards("MoeExperts with a shared expert");
            for (int64_t i = 0; i < both.size(); ++i) {
              const float expected = top_k > 0 ? routed[i] + added[i] : added[i];
              if (both[i] == expected) continue;
              Fail("[%s] %s, implementation %d, %d threads: value %lld is %g, expected %g", isa,
                   Describe("shared expert", wide.gate.matrix(), tokens, precision, threads).c_str(),
                   static_cast<int>(implementation), threads, static_cast<long long>(i),
                   static_cast<double>(both[i]), static_cast<double>(expected));
              return;
            }
          }
        }
      }
    }
  }
}

// Experts that nobody may look at before their group has arrived.
struct Arrivals {
  const std::vector<ExpertWeights>& there;
  std::vector<ExpertWeights> weights;  // as kernels see them: without data until they arrive
  std::vector<int32_t> group;
  int32_t groups, arrived = 0;

  Arrivals(const std::vector<ExpertWeights>& all, int32_t group_count, Random& random)
      : there(all), weights(all), groups(group_count) {
    for (ExpertWeights& expert : weights) {
      group.push_back(static_cast<int32_t>(random.Int(0, groups)));
      if (group.back() > 0) expert.gate.data = expert.up.data = expert.down.data = nullptr;
    }
  }
  static void Next(void* state) {
    auto& self = *static_cast<Arrivals*>(state);
    ++self.arrived;
    for (size_t e = 0; e < self.there.size(); ++e) {
      if (self.group[e] == self.arrived) self.weights[e] = self.there[e];
    }
  }
};

// Experts that arrive in groups are computed with once they are there, and every bit is as if all had been.
void LateGroups() {
  Random random(15);
  Workspace workspace;
  for (int round = 0; round < 24; ++round) {
    const int64_t tokens = round % 3 == 0 ? 1 : random.Int(1, 40);
    const int64_t hidden = random.Int(1, 130);
    const int64_t intermediate = random.Int(1, 70);
    const int64_t count = random.Int(1, 12);
    const int top_k = static_cast<int>(random.Int(1, count));
    const DType dtype = kAllDTypes[round % 3];
    const Precision precision = kAllPrecisions[random.Int(0, 1)];
    std::vector<Expert> experts;
    std::vector<ExpertWeights> weights;
    for (int64_t e = 0; e < count; ++e)
      experts.emplace_back(random, hidden, intermediate, dtype, round % 5 == 0, static_cast<int>(e % 3));
    for (const Expert& expert : experts) weights.push_back(expert.weights());
    const Expert for_all(random, hidden, random.Int(1, 90), dtype, false, 1);
    const SharedExpert shared = {for_all.weights(), {}};
    const std::vector<float> x = random.Normals(tokens * hidden);
    const MoeCase c = {tokens, count, hidden, intermediate, top_k, dtype, false, precision, 1, 0};
    const std::vector<int32_t> indices =
        Route(c, round % 4 == 0 ? Routing::kDuplicates : Routing::kRandom, random);
    const std::vector<float> mix = random.Normals(tokens * top_k);
    for (const char* isa : Isas()) {
      SelectIsa(isa);
      for (const ExpertsImplementation implementation : kAllImplementations) {
        TestPool pool(1 + round % 4);
        Output expected(tokens * hidden), y(tokens * hidden);
        MoeExpertsArgs args = {x.data(), tokens,         weights.data(),  count,
                               hidden,   intermediate,   indices.data(),  mix.data(),
                               top_k,    implementation, expected.data(), precision};
        if (round % 2 == 1) args.shared = &shared;
        MoeExperts(args, workspace, pool);
        Arrivals arrivals(weights, static_cast<int32_t>(random.Int(1, 4)), random);
        const LateExperts late = {arrivals.group.data(), arrivals.groups, Arrivals::Next, &arrivals};
        args.experts = arrivals.weights.data();
        args.late = &late;
        args.y = y.data();
        MoeExperts(args, workspace, pool);
        y.CheckGuards("MoeExperts with late groups");
        const char* what =
            arrivals.arrived != arrivals.groups ? "not every group was waited for"
            : std::memcmp(y.data(), expected.data(), static_cast<size_t>(y.size()) * sizeof(float)) != 0
                ? "values differ"
                : nullptr;
        if (what == nullptr) continue;
        Fail("experts in late groups [%s], round %d, implementation %d: %s", isa, round,
             static_cast<int>(implementation), what);
        return;
      }
    }
  }
}

void MoeShapes() {
  Random random(5);
  Workspace workspace;
  const int64_t shapes[][2] = {{10, 12}, {12, 20}, {24, 10}, {1, 1}, {33, 17}, {64, 96}, {130, 70}};
  for (const auto& shape : shapes) {
    for (const DType dtype : kAllDTypes) {
      for (const bool transposed : {false, true}) {
        const int64_t experts = random.Int(1, 7);
        const Precision precision = kAllPrecisions[random.Int(0, 1)];
        CheckMoe(
            {random.Int(1, 20), experts, shape[0], shape[1], static_cast<int>(random.Int(1, experts)), dtype,
             transposed, precision, static_cast<int>(random.Int(1, 5)), static_cast<int>(random.Int(0, 3))},
            Routing::kRandom, random, workspace);
      }
    }
  }
}

void MoeRouting() {
  Random random(6);
  Workspace workspace;
  for (const bool transposed : {false, true}) {
    for (const Precision precision : kAllPrecisions) {
      const DType dtype = DType::kBFloat16;
      // One token; every expert chosen; all tokens on one expert; the same expert twice for a token; idle
      // experts.
      CheckMoe({1, 6, 96, 40, 2, dtype, transposed, precision, 3, 1}, Routing::kRandom, random, workspace);
      CheckMoe({5, 4, 64, 40, 4, dtype, transposed, precision, 2, 0}, Routing::kRandom, random, workspace);
      CheckMoe({70, 5, 64, 40, 1, dtype, transposed, precision, 4, 0}, Routing::kOneExpert, random,
               workspace);
      CheckMoe({20, 5, 64, 40, 3, dtype, transposed, precision, 4, 0}, Routing::kDuplicates, random,
               workspace);
      CheckMoe({3, 64, 32, 16, 2, dtype, transposed, precision, 2, 0}, Routing::kRandom, random, workspace);
    }
  }
}

void MoeNoTokens() {
  Random random(7);
  Workspace workspace;
  TestPool pool(2);
  const Expert expert(random, 16, 8, DType::kBFloat16, false, 0);
  const ExpertWeights weights = expert.weights();
  Output y(1);
  Output extra(1);
  float* y_data = y.data();
  for (const ExpertsImplementation implementation : kAllImplementations) {
    MoeExperts(
        {nullptr, 0, &weights, 1, 16, 8, nullptr, nullptr, 1, implementation, y.data(), Precision::kFloat32},
        workspace, pool);
  }
  Linear({nullptr, 0, &weights.gate, nullptr, &y_data, 1, Precision::kFloat32}, workspace, pool);
  GatedMlp({nullptr, 0, weights.gate, weights.up, weights.down, {}, y.data(), Precision::kFloat32}, workspace,
           pool);
  Router({nullptr, 0, weights.gate, 2, true, y.data(), nullptr, extra.data(), Precision::kFloat32}, workspace,
         pool);
  EmbeddingRows(&weights.gate, nullptr, 0, y.data(), pool);
  if (!std::isnan(y[0]) || !std::isnan(extra[0]))
    Fail("a kernel wrote an output although there were no tokens");
}

void GatedMlpValues() {
  Random random(8);
  Workspace workspace;
  for (const DType dtype : kAllDTypes) {
    for (const bool transposed : {false, true}) {
      for (const int64_t tokens : {1, 5, 23}) {
        const int64_t hidden = random.Int(1, 100);
        const int64_t intermediate = random.Int(1, 150);
        const Precision precision = kAllPrecisions[random.Int(0, 1)];
        const Expert expert(random, hidden, intermediate, dtype, transposed,
                            static_cast<int>(random.Int(0, 3)));
        const Weights output_gate(random, 1, hidden, dtype, false, 0.3f);
        const bool gated = random.Int(0, 1) == 1;
        const std::vector<float> x = random.Normals(tokens * hidden);
        std::vector<double> expected(static_cast<size_t>(tokens * hidden));
        for (int64_t t = 0; t < tokens; ++t) {
          const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
          const double gate = 1.0 / (1.0 + std::exp(-output_gate.Dot(0, row.data(), precision)));
          expert.AddTo(row.data(), gated ? gate : 1.0, precision, expected.data() + t * hidden);
        }
        TestPool pool(static_cast<int>(random.Int(1, 4)));
        for (const char* isa : Isas()) {
          SelectIsa(isa);
          Output y(tokens * hidden);
          GatedMlp({x.data(), tokens, expert.gate.matrix(), expert.up.matrix(), expert.down.matrix(),
                    gated ? output_gate.matrix() : WeightMatrix{}, y.data(), precision},
                   workspace, pool);
          CheckClose(Describe("GatedMlp", expert.gate.matrix(), tokens, precision, pool.NumThreads()), y,
                     expected, expert.gate.Rounds(precision));
        }
      }
    }
  }
}

// Gate, up and down in types and layouts of their own: kernels walk gate and up together.
void MixedMatrices() {
  Random random(15);
  Workspace workspace;
  struct Kind {
    DType dtype;
    bool transposed;
  };
  std::vector<Kind> kinds;
  for (const DType dtype : kAllDTypes) {
    for (const bool transposed : {false, true}) kinds.push_back({dtype, transposed});
  }
  for (const Kind& gate : kinds) {
    for (const Kind& up : kinds) {
      const Kind& down = kinds[static_cast<size_t>(random.Int(0, static_cast<int64_t>(kinds.size()) - 1))];
      const int64_t tokens = random.Int(1, 70);
      const int64_t hidden = random.Int(1, 100);
      const int64_t intermediate = random.Int(1, 150);
      Expert expert(random, hidden, intermediate, gate.dtype, gate.transposed, 0);
      expert.up = Weights(random, intermediate, hidden, up.dtype, up.transposed, Expert::Scale(hidden));
      expert.down =
          Weights(random, hidden, intermediate, down.dtype, down.transposed, Expert::Scale(intermediate));
      const std::vector<float> x = random.Normals(tokens * hidden);
      std::vector<double> expected(static_cast<size_t>(tokens * hidden));
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
        expert.AddTo(row.data(), 1.0, Precision::kBFloat16, expected.data() + t * hidden);
      }
      TestPool pool(static_cast<int>(random.Int(1, 4)));
      for (const char* isa : Isas()) {
        SelectIsa(isa);
        Output y(tokens * hidden);
        GatedMlp({x.data(), tokens, expert.gate.matrix(), expert.up.matrix(), expert.down.matrix(),
                  WeightMatrix{}, y.data(), Precision::kBFloat16},
                 workspace, pool);
        CheckClose(Describe("GatedMlp", expert.gate.matrix(), tokens, Precision::kBFloat16, 0) + ", up " +
                       Describe("as", expert.up.matrix(), tokens, Precision::kBFloat16, pool.NumThreads()),
                   y, expected, true);
      }
    }
  }
}

// The same bits whatever the number of threads.
void ThreadCounts() {
  Random random(13);
  Workspace workspace;
  const int64_t tokens = 45;
  const int64_t hidden = 200;
  const int64_t intermediate = 330;
  std::vector<Expert> experts;
  std::vector<ExpertWeights> weights;
  for (int e = 0; e < 3; ++e) experts.emplace_back(random, hidden, intermediate, DType::kBFloat16, e == 2, 0);
  for (const Expert& expert : experts) weights.push_back(expert.weights());
  const std::vector<float> x = random.Normals(tokens * hidden);
  const MoeCase c = {tokens, 3, hidden, intermediate, 2, DType::kBFloat16, false, Precision::kFloat32, 1, 0};
  const std::vector<int32_t> indices = Route(c, Routing::kRandom, random);
  const std::vector<float> mix = random.Normals(tokens * 2);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      for (const ExpertsImplementation implementation : kAllImplementations) {
        std::vector<float> first;
        for (const int threads : {1, 2, 3, 7, 16, 64}) {
          TestPool pool(threads);
          Output y(tokens * hidden);
          MoeExperts({x.data(), tokens, weights.data(), 3, hidden, intermediate, indices.data(), mix.data(),
                      2, implementation, y.data(), precision},
                     workspace, pool);
          y.CheckGuards("MoeExperts");
          if (first.empty()) first.assign(y.data(), y.data() + tokens * hidden);
          if (std::memcmp(first.data(), y.data(), first.size() * sizeof(float)) != 0) {
            Fail("[%s] implementation %d gives other bits on %d threads than on one", isa,
                 static_cast<int>(implementation), threads);
          }
        }
      }
    }
  }
}

// Long inputs are cut into chunks: scratch stays bounded and the values do not change.
void BoundedScratch() {
  Random random(14);
  const int64_t tokens = 8192;
  const int64_t hidden = 2048;
  const int64_t intermediate = 1;
  const int top_k = 8;
  const Expert expert(random, hidden, intermediate, DType::kBFloat16, false, 0);
  const std::vector<ExpertWeights> weights(8, expert.weights());
  std::vector<float> x(static_cast<size_t>(tokens * hidden), 0.0f);
  std::vector<int32_t> indices;
  for (int64_t p = 0; p < tokens * top_k; ++p) indices.push_back(static_cast<int32_t>(p % top_k));
  for (int64_t t = 0; t < tokens; ++t) x[static_cast<size_t>(t * hidden + t % hidden)] = 1.0f;
  const std::vector<float> mix(static_cast<size_t>(tokens * top_k), 0.125f);
  SelectIsa(Isas()[0]);
  Workspace workspace;
  TestPool pool(2);
  Output y(tokens * hidden);
  MoeExperts({x.data(), tokens, weights.data(), 8, hidden, intermediate, indices.data(), mix.data(), top_k,
              ExpertsImplementation::kGroupedMm, y.data(), Precision::kFloat32},
             workspace, pool);
  y.CheckGuards("MoeExperts");
  if (workspace.capacity() > (128u << 20)) Fail("scratch grew to %zu bytes", workspace.capacity());
  for (const int64_t t : {int64_t{0}, tokens / 2, tokens - 1}) {
    std::vector<double> expected(static_cast<size_t>(hidden));
    const std::vector<double> row = Doubles(x.data() + t * hidden, hidden);
    expert.AddTo(row.data(), 1.0, Precision::kFloat32, expected.data());
    for (int64_t n = 0; n < hidden; ++n) {
      if (!(std::fabs(y[t * hidden + n] - expected[static_cast<size_t>(n)]) <= 1e-5)) {
        Fail("token %lld of a long input differs", static_cast<long long>(t));
        break;
      }
    }
  }
}

}  // namespace

std::vector<Group> ExpertsGroups() {
  return {
      {"gated mlp, with and without output gate", GatedMlpValues},
      {"gated mlp of matrices of different types and layouts", MixedMatrices},
      {"experts: odd shapes, types and layouts", MoeShapes},
      {"experts: with one that all tokens go to beside them", SharedBeside},
      {"experts: groups that arrive while others are computed", LateGroups},
      {"experts: one token, one expert, all experts, idle experts, duplicates", MoeRouting},
      {"no tokens: nothing is written", MoeNoTokens},
      {"experts: same bits on 1 to 64 threads", ThreadCounts},
      {"experts: long inputs need bounded scratch", BoundedScratch},
  };
}

}  // namespace switchyard::cpu
