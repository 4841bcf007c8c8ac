// Runs the CUDA sources on the CPU and compares every launcher with plain loops in double precision.
#include <algorithm>
#include <cmath>
#include <memory>

#include "../../../kernels/cuda/moe/moe_internal.h"
#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::Routing;
using testing::Tensor;
using testing::Tolerance;

double Silu(double x) { return x / (1.0 + std::exp(-x)); }

enum class Layout { kSeparate, kFused, kFusedTransposed };

// A layer's experts in one of the layouts on disk, and their values as [experts][rows][columns].
struct Experts {
  Experts(DType dtype, int count, int hidden, int intermediate, Layout layout_)
      : layout(layout_),
        gate_up(dtype, int64_t{2} * count * intermediate * hidden, 0.4f),
        down(dtype, int64_t{1} * count * intermediate * hidden, 0.4f),
        pointers(3 * count) {
    table.dtype = dtype;
    table.num_experts = count;
    table.hidden = hidden;
    table.intermediate = intermediate;
    table.transposed = layout == Layout::kFusedTransposed;
    if (layout == Layout::kSeparate) {
      // Ups first and experts in reverse, so that only the pointers lead to the right place.
      std::vector<const void*> gates(count), ups(count), downs(count);
      const int64_t size = int64_t{1} * intermediate * hidden;
      for (int e = 0; e < count; ++e) {
        ups[e] = gate_up.At((count - 1 - e) * 2 * size);
        gates[e] = gate_up.At(((count - 1 - e) * 2 + 1) * size);
        downs[e] = down.At((count - 1 - e) * size);
      }
      FillSeparateExperts(gates.data(), ups.data(), downs.data(), pointers.data(), pointers.data(), &table);
    } else {
      FillFusedExperts(gate_up.At(0), down.At(0), pointers.data(), pointers.data(), &table);
    }
  }

  double Gate(int e, int row, int column, bool up) const {
    const int64_t h = table.hidden, i = table.intermediate;
    const int64_t count = table.num_experts;
    if (layout == Layout::kSeparate) {
      return gate_up.values[(((count - 1 - e) * 2 + !up) * i + row) * h + column];
    }
    if (layout == Layout::kFused) return gate_up.values[(e * 2 * i + up * i + row) * h + column];
    return gate_up.values[(e * h + column) * 2 * i + up * i + row];
  }
  double Down(int e, int row, int column) const {
    const int64_t h = table.hidden, i = table.intermediate;
    if (layout == Layout::kSeparate) e = table.num_experts - 1 - e;
    if (layout != Layout::kFusedTransposed) return down.values[(e * h + row) * i + column];
    return down.values[(e * i + column) * h + row];
  }

  Layout layout;
  Tensor gate_up, down;
  std::vector<const void*> pointers;
  ExpertTable table;
};

struct MoeCase {
  int tokens, experts, top_k, hidden, intermediate;
  DType dtype;
  Layout layout;
  Routing routing;
  DType y_dtype;
  bool accumulate;
  bool use_wgmma = false;
};

std::vector<double> ReferenceMoe(const MoeCase& c, const Experts& experts, const Tensor& x,
                                 const std::vector<int>& indices, const std::vector<float>& weights) {
  std::vector<double> y(int64_t{1} * c.tokens * c.hidden, 0.0);
  std::vector<double> activations(c.intermediate);
  for (int pair = 0; pair < c.tokens * c.top_k; ++pair) {
    const float* row = x.values.data() + int64_t{1} * (pair / c.top_k) * c.hidden;
    for (int i = 0; i < c.intermediate; ++i) {
      double gate = 0.0, up = 0.0;
      for (int h = 0; h < c.hidden; ++h) {
        gate += row[h] * experts.Gate(indices[pair], i, h, false);
        up += row[h] * experts.Gate(indices[pair], i, h, true);
      }
      activations[i] = Silu(gate) * up;
    }
    for (int h = 0; h < c.hidden; ++h) {
      double sum = 0.0;
      for (int i = 0; i < c.intermediate; ++i) sum += activations[i] * experts.Down(indices[pair], h, i);
      y[int64_t{1} * (pair / c.top_k) * c.hidden + h] += weights[pair] * sum;
    }
  }
  return y;
}

cudaError_t LaunchMoe(ExpertsImplementation implementation, const MoeExpertsArgs& args) {
  if (implementation == ExpertsImplementation::kBatchedMm) return LaunchMoeBatchedMm(args, nullptr);
  if (implementation == ExpertsImplementation::kGroupedMm) return LaunchMoeGroupedMm(args, nullptr);
  GemmContext* gemm = nullptr;
  if (const cudaError_t status = CreateGemmContext(&gemm); status != cudaSuccess) return status;
  const cudaError_t status = LaunchMoeEager(*gemm, args, nullptr);
  DestroyGemmContext(gemm);
  return status;
}

// What came of inputs that were rounded before comes of unrounded ones, or they are refused.
void CheckFloat32Inputs(ExpertsImplementation implementation, MoeExpertsArgs args, const Tensor& unrounded,
                        const Tensor& before, const Guarded& expected, size_t bytes) {
  const Guarded y(bytes);
  if (args.accumulate) std::memcpy(y.data(), before.memory.data(), bytes);
  args.x = unrounded.memory.data();
  args.float32_inputs = true;
  args.y = y.data();
  const bool taken =
      args.experts.dtype == DType::kFloat32 ||
      (implementation == ExpertsImplementation::kBatchedMm && BatchedMmRounds(args.experts, args.top_k));
  const cudaError_t status = LaunchMoe(implementation, args);
  EXPECT(status == (taken ? cudaSuccess : cudaErrorInvalidValue), "status %d", static_cast<int>(status));
  EXPECT(!taken || testing::SameBits(y, expected, bytes), "fp32 inputs give another result");
}

void CheckMoe(const MoeCase& c, std::vector<ExpertsImplementation> implementations) {
  const Experts experts(c.dtype, c.experts, c.hidden, c.intermediate, c.layout);
  const Tensor unrounded(DType::kFloat32, int64_t{1} * c.tokens * c.hidden, 1.0f);
  const Tensor x = testing::RoundedTo(c.dtype, unrounded);
  const std::vector<int> indices = testing::Route(c.routing, c.tokens, c.top_k, c.experts);
  std::vector<float> weights(indices.size());
  for (float& weight : weights) weight = std::fabs(testing::RandomFloat());
  std::vector<double> expected = ReferenceMoe(c, experts, x, indices, weights);
  const Tensor before(c.y_dtype, static_cast<int64_t>(expected.size()), 1.0f);
  for (size_t i = 0; c.accumulate && i < expected.size(); ++i) expected[i] += before.values[i];

  for (const ExpertsImplementation implementation : implementations) {
    const Guarded y(expected.size() * ElementSize(c.y_dtype));
    if (c.accumulate) std::memcpy(y.data(), before.memory.data(), expected.size() * ElementSize(c.y_dtype));
    const size_t bytes = MoeWorkspaceBytes(implementation, experts.table, c.tokens, c.top_k);
    const Guarded workspace(bytes);
    MoeExpertsArgs args;
    args.x = x.memory.data();
    args.tokens = c.tokens;
    args.experts = experts.table;
    args.indices = indices.data();
    args.weights = weights.data();
    args.top_k = c.top_k;
    args.y = y.data();
    args.y_dtype = c.y_dtype;
    args.accumulate = c.accumulate;
    args.use_wgmma = c.use_wgmma;
    args.workspace = workspace.data();
    args.workspace_bytes = bytes;
    const cudaError_t status = LaunchMoe(implementation, args);
    EXPECT(status == cudaSuccess, "status %d", static_cast<int>(status));
    ExpectClose(y.data(), c.y_dtype, expected, Tolerance(c.dtype), "y");
    CheckFloat32Inputs(implementation, args, unrounded, before, y, expected.size() * ElementSize(c.y_dtype));
    args.workspace_bytes = bytes - 1;
    EXPECT(LaunchMoe(implementation, args) == cudaErrorInvalidValue,
           "a workspace one byte short was accepted");
  }
}

const std::vector<ExpertsImplementation> kAll = {
    ExpertsImplementation::kEager, ExpertsImplementation::kBatchedMm, ExpertsImplementation::kGroupedMm};
constexpr Layout kLayouts[] = {Layout::kSeparate, Layout::kFused, Layout::kFusedTransposed};

// Few tokens over all dtypes and layouts, sizes that are multiples of 8 but of no tile.
void AllTypesAndLayouts() {
  for (const DType dtype : kTypes) {
    for (const Layout layout : kLayouts) {
      CheckMoe({5, 6, 3, 72, 40, dtype, layout, Routing::kRandom, dtype, false}, kAll);
      CheckMoe({1, 4, 2, 40, 72, dtype, layout, Routing::kRandom, DType::kFloat32, true}, kAll);
    }
  }
}

// Rows of several steps of a warp, more of them than blocks have at once, and experts whose rows begin within
// one; a top_k with an odd number of matrices.
void MatrixVectorProductsOfManySteps() {
  for (const DType dtype : kTypes) {
    CheckMoe({1, 5, 3, 1288, 328, dtype, Layout::kSeparate, Routing::kRandom, DType::kFloat32, false},
             {ExpertsImplementation::kBatchedMm});
    CheckMoe({3, 6, 4, 264, 1032, dtype, Layout::kFused, Routing::kSkewed, dtype, true},
             {ExpertsImplementation::kBatchedMm});
  }
}

// Rows that do not start on 16 bytes take the kernels without wide accesses.
void OddSizes() {
  for (const DType dtype : kTypes) {
    for (const Layout layout : kLayouts) {
      CheckMoe({7, 5, 2, 20, 13, dtype, layout, Routing::kRandom, dtype, false}, kAll);
    }
  }
}

// Several tiles an expert, several column tiles, k longer than the pipeline; both layouts of the tensor-core
// kernel.
void TensorCoreTiles() {
  emulator::bank_conflicts = 0;
  for (const Layout layout : kLayouts) {
    CheckMoe({150, 3, 2, 328, 136, DType::kBFloat16, layout, Routing::kSkewed, DType::kBFloat16, false},
             {ExpertsImplementation::kGroupedMm});
  }
  CheckMoe({33, 3, 2, 136, 392, DType::kFloat16, Layout::kFused, Routing::kRandom, DType::kFloat16, false},
           {ExpertsImplementation::kGroupedMm});
  EXPECT(emulator::bank_conflicts == 0, "%lld matrix loads met bank conflicts",
         static_cast<long long>(emulator::bank_conflicts));
}

// Devices with less shared memory run two stages instead of three.
void TensorCoreTwoStages() {
  emulator::shared_memory_limit = 99 * 1024;
  emulator::shared_memory_granted.clear();
  CheckMoe({40, 3, 2, 328, 72, DType::kBFloat16, Layout::kFused, Routing::kRandom, DType::kBFloat16, false},
           {ExpertsImplementation::kGroupedMm});
}

// Tiles of every width of the warpgroup kernel: 1 to 128 rows, one and several column tiles.
void WarpgroupTiles() {
  emulator::compute_capability_major = 9;
  emulator::shared_memory_limit = 227 * 1024;
  const auto check = [](int tokens, int hidden, int intermediate, DType dtype, Layout layout) {
    MoeCase c = {tokens, 2, 1, hidden, intermediate, dtype, layout, Routing::kSkewed, dtype, false};
    c.use_wgmma = true;
    CheckMoe(c, {ExpertsImplementation::kGroupedMm});
  };
  for (const int tokens : {1, 40, 70, 130, 190}) check(tokens, 72, 40, DType::kBFloat16, Layout::kFused);
  check(150, 328, 136, DType::kFloat16, Layout::kSeparate);
  check(40, 392, 272, DType::kBFloat16, Layout::kFused);
  check(9, 72, 40, DType::kBFloat16, Layout::kFusedTransposed);
}

// A build without code for sm_90a takes the other kernel, whose three stages fit here; four would not.
void WarpgroupTilesNotBuilt() {
  emulator::compute_capability_major = 9;
  emulator::shared_memory_limit = 163 * 1024;
  emulator::shared_memory_granted.clear();
  emulator::kernel_threads_limit = 32;
  MoeCase c = {40, 2, 1, 72, 40, DType::kBFloat16, Layout::kFused, Routing::kSkewed, DType::kBFloat16, false};
  c.use_wgmma = true;
  CheckMoe(c, {ExpertsImplementation::kGroupedMm});
}

void UnusualRoutings() {
  for (const Routing routing : {Routing::kSameForAll, Routing::kFewOfMany}) {
    CheckMoe({140, 9, 1, 24, 16, DType::kBFloat16, Layout::kFused, routing, DType::kBFloat16, false}, kAll);
    CheckMoe({17, 40, 8, 24, 16, DType::kFloat32, Layout::kSeparate, routing, DType::kFloat32, false}, kAll);
  }
  CheckMoe({0, 4, 2, 24, 16, DType::kFloat32, Layout::kFused, Routing::kRandom, DType::kFloat32, false}, {});
}

// The device's plan is the host's, bit for bit: the sort is stable.
void DevicePlanEqualsHostPlan() {
  for (int round = 0; round < 24; ++round) {
    // The first has few warps with many pairs each; of four, several blocks share the pairs.
    const bool shared = round >= 20;
    const int experts = round == 0 ? 1024 : testing::RandomInt(shared ? 8 : 1, 200);
    const int top_k = round == 0 || shared ? 8 : testing::RandomInt(1, std::min(8, experts));
    const int tokens = round == 0 ? 400 : testing::RandomInt(1, 400) + (shared ? 600 * (round - 19) : 0);
    const Routing routing = static_cast<Routing>(round % 4);
    const std::vector<int> indices = testing::Route(routing, tokens, top_k, experts);
    const int pairs = static_cast<int>(indices.size());
    const MoeHostPlan host = PlanMoe(indices.data(), pairs, experts);
    const int max_tiles = MoeMaxTiles(pairs, experts);
    const Guarded offsets((experts + 1) * 4, 4), sorted(pairs * 4, 4), positions(pairs * 4, 4),
        block_counts(kMostPlanBlocks * experts * 4, 4), tiles(max_tiles * sizeof(MoeTile)), count(4, 4);
    const DevicePlan plan = {offsets.As<int32_t>(),
                             sorted.As<int32_t>(),
                             positions.As<int32_t>(),
                             block_counts.As<int32_t>(),
                             tiles.As<MoeTile>(),
                             count.As<int32_t>(),
                             max_tiles};
    EXPECT(LaunchMoePlan(indices.data(), pairs, experts, plan, nullptr) == cudaSuccess, "%d experts",
           experts);
    EXPECT(*plan.num_tiles == static_cast<int>(host.tiles.size()), "%d tiles", *plan.num_tiles);
    EXPECT(std::equal(host.offsets.begin(), host.offsets.end(), plan.offsets), "offsets, round %d", round);
    EXPECT(std::equal(host.sorted_pairs.begin(), host.sorted_pairs.end(), plan.sorted_pairs),
           "pairs, round %d", round);
    int misplaced = 0;
    for (int i = 0; i < pairs; ++i) misplaced += plan.sorted_pairs[plan.positions[i]] == i ? 0 : 1;
    EXPECT(misplaced == 0, "%d positions, round %d", misplaced, round);
    EXPECT(std::memcmp(host.tiles.data(), plan.tiles, host.tiles.size() * sizeof(MoeTile)) == 0, "round %d",
           round);
  }
  EXPECT(LaunchMoePlan(nullptr, 0, 5000, {}, nullptr) == cudaErrorInvalidValue, "5000 experts were accepted");
}

// With and without an output gate, on both sides of the switch from matrix-vector products to the grouped
// product.
void GatedMlpMatchesTheReference() {
  for (const int tokens : {1, 8, 9, 20}) {
    for (const bool gated : {false, true}) {
      const MoeCase c = {tokens,          1,    1, 72, 40, DType::kBFloat16, Layout::kFused, Routing::kRandom,
                         DType::kFloat32, false};
      const Experts mlp(c.dtype, 1, c.hidden, c.intermediate, c.layout);
      const Tensor unrounded(DType::kFloat32, int64_t{1} * tokens * c.hidden, 1.0f),
          x = testing::RoundedTo(c.dtype, unrounded), gate(c.dtype, c.hidden, 1.0f);
      std::vector<float> weights(tokens, 1.0f);
      for (int t = 0; gated && t < tokens; ++t) {
        double sum = 0.0;
        for (int h = 0; h < c.hidden; ++h) sum += double{x.values[t * c.hidden + h]} * gate.values[h];
        weights[t] = static_cast<float>(1.0 / (1.0 + std::exp(-sum)));
      }
      const auto expected = ReferenceMoe(c, mlp, x, std::vector<int>(tokens, 0), weights);
      const size_t bytes = GatedMlpWorkspaceBytes(mlp.table, tokens);
      const Guarded y(expected.size() * 4), workspace(bytes);
      GatedMlpArgs args;
      args.x = x.memory.data();
      args.tokens = tokens;
      args.mlp = mlp.table;
      args.mlp.gate.device = args.mlp.up.device = args.mlp.down.device = nullptr;
      args.output_gate = gated ? gate.memory.data() : nullptr;
      args.y = y.data();
      args.y_dtype = DType::kFloat32;
      args.workspace = workspace.data();
      args.workspace_bytes = bytes;
      EXPECT(LaunchGatedMlp(args, nullptr) == cudaSuccess, "%d tokens", tokens);
      ExpectClose(y.data(), DType::kFloat32, expected, Tolerance(c.dtype), "y");
      const Guarded same(expected.size() * 4);
      args.x = unrounded.memory.data();
      args.float32_inputs = true;
      args.y = same.data();
      const bool taken = GatedMlpRounds(args.mlp, tokens);
      EXPECT(LaunchGatedMlp(args, nullptr) == (taken ? cudaSuccess : cudaErrorInvalidValue), "%d tokens",
             tokens);
      EXPECT(taken == (tokens <= 8), "%d tokens", tokens);
      EXPECT(!taken || testing::SameBits(same, y, expected.size() * 4), "fp32 inputs give another result");
    }
  }
}

void LinearMatchesTheReference() {
  GemmContext* gemm = nullptr;
  EXPECT(CreateGemmContext(&gemm) == cudaSuccess, "context");
  for (const DType dtype : kTypes) {
    for (const bool transposed : {false, true}) {
      const int m = 35, n = 45, k = 67;
      const Tensor a(dtype, m * k, 1.0f, 2), w(dtype, n * k, 1.0f, 2), bias(dtype, n, 1.0f, 2);
      const Guarded out(m * n * ElementSize(dtype), 2);
      LinearArgs args = {dtype,
                         m,
                         n,
                         k,
                         a.memory.data(),
                         k,
                         w.memory.data(),
                         transposed ? n : k,
                         transposed,
                         false,
                         bias.memory.data(),
                         out.data(),
                         dtype,
                         n};
      EXPECT(LaunchLinear(*gemm, args, nullptr) == cudaSuccess, "launch");
      std::vector<double> expected(m * n);
      for (int i = 0; i < m * n; ++i) {
        expected[i] = bias.values[i % n];
        for (int j = 0; j < k; ++j) {
          expected[i] +=
              double{a.values[i / n * k + j]} * w.values[transposed ? j * n + i % n : i % n * k + j];
        }
      }
      ExpectClose(out.data(), dtype, expected, Tolerance(dtype), "out");
      const Guarded wide(m * n * 4, 4);
      args.out = wide.data();
      args.out_dtype = DType::kFloat32;
      EXPECT(LaunchLinear(*gemm, args, nullptr) == cudaSuccess, "launch");
      ExpectClose(wide.data(), DType::kFloat32, expected, 2e-6, "fp32 out");
      args.bias = nullptr;
      EXPECT(LaunchLinear(*gemm, args, nullptr) == cudaSuccess, "launch");
      args.bias = bias.memory.data();
      EXPECT(LaunchAddBias(args, nullptr) == cudaSuccess, "launch");
      ExpectClose(wide.data(), DType::kFloat32, expected, 2e-6, "bias added afterwards");
      args.out_dtype = dtype == DType::kFloat16 ? DType::kBFloat16 : DType::kFloat16;
      EXPECT(dtype == args.out_dtype || LaunchLinear(*gemm, args, nullptr) == cudaErrorInvalidValue,
             "an output of another 16-bit type");
    }
  }
  DestroyGemmContext(gemm);
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(
      argc, argv,
      {{"all types and layouts", AllTypesAndLayouts},
       {"matrix-vector products of many steps", MatrixVectorProductsOfManySteps},
       {"sizes without 16-byte rows", OddSizes},
       {"tensor-core tiles", TensorCoreTiles},
       {"tensor-core tiles in two stages", TensorCoreTwoStages},
       {"warpgroup tiles", WarpgroupTiles},
       {"warpgroup tiles not built", WarpgroupTilesNotBuilt},
       {"unusual routings", UnusualRoutings},
       {"device plan equals host plan", DevicePlanEqualsHostPlan},
       {"top-k chooses as the reference", TopKChoosesAsTheReference},
       {"top-k of NaN stays in range", TopKOfNanIsInRange},
       {"router matches the reference", RouterMatchesTheReference},
       {"gated MLP matches the reference", GatedMlpMatchesTheReference},
       {"linear matches the reference", LinearMatchesTheReference},
       {"embedding rows and conversion", EmbeddingAndConversion},
       {"codes are what the specification says", CodesAreWhatTheSpecificationSays},
       {"tiles of codes match their elements", CodedTilesMatchTheElements},
       {"linear over codes matches the reference", CodedLinearMatchesTheReference},
       {"experts over codes match the reference", CodedExpertsMatchTheReference},
       {"gated MLP over codes matches the reference", CodedGatedMlpMatchesTheReference},
       {"attention over a cache matches the reference", CachedAttentionMatchesTheReference},
       {"rows share blocks", RowsShareBlocks},
       {"rows are read from the device", RowsAreReadFromTheDevice},
       {"places outside the cache give zeros", PlacesOutsideTheCache},
       {"attention in wide blocks", AttentionInWideBlocks},
       {"attention without a cache matches the reference", AttentionMatchesTheReference},
       {"attention refuses sizes that do not fit", AttentionRefusesSizes},
       {"top candidates match a sort", TopCandidatesMatchASort},
       {"a gated delta net matches its recurrence", DeltaNetMatchesTheRecurrence},
       {"a gated delta net refuses rows that do not fit", DeltaNetRefusesRowsThatDoNotFit},
       {"a sparse index chooses as the reference", BlockIndexMatchesTheReference},
       {"equal scores keep the first blocks", EqualScoresKeepTheFirstBlocks},
       {"a sparse index refuses places outside the cache", BlockIndexRefusesPlaces},
       {"attention to selected blocks matches the reference", SelectedAttentionMatchesTheReference},
       {"a causal convolution matches the reference", CausalConvMatchesTheReference},
       {"a causal convolution refuses rows that do not fit", CausalConvRefusesRowsThatDoNotFit},
       {"hashes of n-grams wrap around", NgramRowsWrapAround},
       {"products of few rows match the reference", GemvMatchesTheReference},
       {"products of few rows refuse what does not fit", GemvRefusesWhatDoesNotFit},
       {"kernels that start early have to wait", DependentKernelsHaveToWait}});
}
