// Checks and times the kernels on a card. The experts' are run with every backend, dtype, layout, model
// shape, token count and routing, compared with an fp32 reference on fresh inputs and poisoned outputs before
// they are timed, alone and as a captured graph; check_others.cc, check_coded.cc, check_decoder.cc and
// check_steps.cc have the rest.
//
//   bench [--quick] [--layout separate|fused|transposed] [--model qwen2|qwen3] [--dtype NAME] [--milliseconds
//   N]
//
// --quick         small shapes, checks only: for compute-sanitizer
// --dtype         of the experts that are run; the other kernels are run with all they take
// --milliseconds  to spend on one measurement (200)
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

struct Model {
  const char* name;
  int experts, top_k, hidden, intermediate;
};
constexpr Model kModels[] = {{"qwen2", 60, 4, 2048, 1408}, {"qwen3", 128, 8, 2048, 768}};
constexpr Model kQuickModel = {"small", 6, 3, 192, 136};
constexpr int64_t kTokenCounts[] = {1, 2, 4, 16, 64, 256, 1024, 4096, 8192};
constexpr int64_t kQuickTokenCounts[] = {1, 5, 150};
constexpr int kInputSets = 4;            // rotated while timing; another is for the checks
constexpr int64_t kCheckedTokens = 128;  // of a large input
constexpr int64_t kTimedBatched =
    256;  // beyond this many tokens batched_mm reads weights too often to be of use
constexpr int64_t kTimedFloat32 = 16;  // float32 is for checks

enum class Layout { kSeparate, kFused, kTransposed };
constexpr const char* kLayoutNames[] = {"separate", "fused", "transposed"};

// What is timed: the three implementations, and grouped_mm without the warpgroup instructions where the card
// has them.
struct Backend {
  const char* name;
  ExpertsImplementation implementation;
  bool use_wgmma;
};
constexpr Backend kBackends[] = {{"eager", ExpertsImplementation::kEager, false},
                                 {"batched_mm", ExpertsImplementation::kBatchedMm, false},
                                 {"grouped_mm", ExpertsImplementation::kGroupedMm, true},
                                 {"grouped_mm (mma)", ExpertsImplementation::kGroupedMm, false}};
static_assert(sizeof(kBackends) / sizeof(kBackends[0]) == kInputSets);

const char* NameOf(DType dtype) {
  if (dtype == DType::kFloat32) return "float32";
  return dtype == DType::kBFloat16 ? "bfloat16" : "float16";
}

double Tolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 1e-5;
  return dtype == DType::kFloat16 ? 2e-3 : 1e-2;
}

// One layer's weights on the device.
struct Experts {
  Experts(const Model& model, DType dtype, Layout layout)
      : gate_up(
            RandomBuffer(dtype, int64_t{2} * model.experts * model.intermediate * model.hidden, 0.05f, 100)),
        down(RandomBuffer(dtype, int64_t{1} * model.experts * model.intermediate * model.hidden, 0.05f, 101)),
        host(3 * model.experts),
        device(3 * model.experts * sizeof(void*)) {
    table.dtype = dtype;
    table.num_experts = model.experts;
    table.hidden = model.hidden;
    table.intermediate = model.intermediate;
    table.transposed = layout == Layout::kTransposed;
    const auto pointers = device.As<const void*>();
    FillFusedExperts(gate_up.data(), down.data(), host.data(), pointers, &table);
    if (layout == Layout::kSeparate) {
      // Apart in memory and in another order, as matrices loaded one by one may lie.
      std::vector<const void*> fused = host;
      std::reverse(fused.begin(), fused.begin() + model.experts);
      std::reverse(fused.begin() + 2 * model.experts, fused.end());
      FillSeparateExperts(fused.data(), fused.data() + model.experts, fused.data() + 2 * model.experts,
                          host.data(), pointers, &table);
    }
    CHECK_CUDA(cudaMemcpy(device.data(), host.data(), device.bytes(), cudaMemcpyHostToDevice));
  }
  DeviceBuffer gate_up, down;
  std::vector<const void*> host;
  DeviceBuffer device;
  ExpertTable table;
};

// top_k different experts a token; skewed routing prefers expert e with weight 1 / (e + 1).
std::vector<int32_t> Route(const Model& model, int64_t tokens, bool skewed, std::mt19937& random) {
  std::vector<int32_t> indices;
  std::vector<std::pair<double, int>> keys(model.experts);
  std::exponential_distribution<double> draw(1.0);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int e = 0; e < model.experts; ++e) keys[e] = {draw(random) * (skewed ? e + 1 : 1), e};
    std::partial_sort(keys.begin(), keys.begin() + model.top_k, keys.end());
    for (int k = 0; k < model.top_k; ++k) indices.push_back(keys[k].second);
  }
  return indices;
}

// One set of inputs and its output.
struct Inputs {
  Inputs(const Model& model, DType dtype, int64_t tokens, bool skewed, uint32_t seed) {
    std::mt19937 random(seed);
    routing = Route(model, tokens, skewed, random);
    std::vector<float> scales(routing.size());
    for (float& scale : scales) scale = std::uniform_real_distribution<float>(0.05f, 0.3f)(random);
    x = RandomBuffer(dtype, tokens * model.hidden, 1.0f, seed);
    indices = Upload(routing);
    weights = Upload(scales);
    y = DeviceBuffer(tokens * model.hidden * ElementSize(dtype));
  }
  int64_t ActiveExperts(int experts) const {
    std::vector<int> active(experts, 0);
    for (const int32_t e : routing) active[e] = 1;
    return std::accumulate(active.begin(), active.end(), int64_t{0});
  }
  DeviceBuffer x, indices, weights, y;
  std::vector<int32_t> routing;
};

struct Bench {
  GemmContext* gemm = nullptr;
  cudaStream_t stream = nullptr;
  double copy_rate = 0.0;
  double matrix_rate = 0.0;
  int failures = 0;
  int compute_capability_major = 0;
};

MoeExpertsArgs MakeArgs(const Model& model, const Experts& experts, const Inputs& inputs, int64_t tokens,
                        const DeviceBuffer& workspace) {
  MoeExpertsArgs args;
  args.x = inputs.x.data();
  args.tokens = tokens;
  args.experts = experts.table;
  args.indices = inputs.indices.As<int32_t>();
  args.weights = inputs.weights.As<float>();
  args.top_k = model.top_k;
  args.y = inputs.y.data();
  args.y_dtype = experts.table.dtype;
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.bytes();
  return args;
}

void Launch(Bench& bench, ExpertsImplementation backend, const MoeExpertsArgs& args) {
  switch (backend) {
    case ExpertsImplementation::kEager:
      CHECK_CUDA(LaunchMoeEager(*bench.gemm, args, bench.stream));
      break;
    case ExpertsImplementation::kBatchedMm:
      CHECK_CUDA(LaunchMoeBatchedMm(args, bench.stream));
      break;
    case ExpertsImplementation::kGroupedMm:
      CHECK_CUDA(LaunchMoeGroupedMm(args, bench.stream));
      break;
  }
}

// The error of what lies in args.y, over an even selection of its tokens.
double ErrorOf(const MoeExpertsArgs& args, const DeviceBuffer& y) {
  const int64_t hidden = args.experts.hidden;
  std::vector<int64_t> tokens;
  const int64_t step = CeilDiv(args.tokens, kCheckedTokens);
  for (int64_t t = args.tokens - 1; t >= 0; t -= step) tokens.push_back(t);
  const std::vector<float> out = DownloadFloats(y, args.y_dtype);
  std::vector<float> chosen;
  for (const int64_t t : tokens)
    chosen.insert(chosen.end(), out.begin() + t * hidden, out.begin() + (t + 1) * hidden);
  for (const float value : out) {
    if (!std::isfinite(value)) return INFINITY;
  }
  return RelativeError(chosen, ReferenceMoe(args, tokens));
}

double Check(Bench& bench, ExpertsImplementation backend, const MoeExpertsArgs& args, Inputs& inputs,
             DeviceBuffer& workspace) {
  inputs.y.Poison();
  workspace.Poison();
  CHECK_CUDA(cudaDeviceSynchronize());
  Launch(bench, backend, args);
  CHECK_CUDA(cudaStreamSynchronize(bench.stream));
  const double error = ErrorOf(args, inputs.y);
  if (!(error <= Tolerance(args.y_dtype))) ++bench.failures;
  return error;
}

// Captures one call, then replays it on other inputs copied over the captured ones.
double CheckReplay(Bench& bench, ExpertsImplementation backend, const MoeExpertsArgs& args, Inputs& inputs,
                   const Inputs& others) {
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(bench.stream, cudaStreamCaptureModeThreadLocal));
  Launch(bench, backend, args);
  CHECK_CUDA(cudaStreamEndCapture(bench.stream, &graph));
  cudaGraphExec_t executable = nullptr;
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  const auto copy = [](const DeviceBuffer& to, const DeviceBuffer& from) {
    CHECK_CUDA(cudaMemcpy(to.data(), from.data(), to.bytes(), cudaMemcpyDeviceToDevice));
  };
  copy(inputs.x, others.x);
  copy(inputs.indices, others.indices);
  copy(inputs.weights, others.weights);
  inputs.routing = others.routing;
  inputs.y.Poison();
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK_CUDA(cudaGraphLaunch(executable, bench.stream));
  CHECK_CUDA(cudaStreamSynchronize(bench.stream));
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  CHECK_CUDA(cudaGraphDestroy(graph));
  const double error = ErrorOf(args, inputs.y);
  if (!(error <= Tolerance(args.y_dtype))) ++bench.failures;
  return error;
}

bool IsTimed(ExpertsImplementation backend, DType dtype, int64_t tokens) {
  if (dtype == DType::kFloat32) return tokens <= kTimedFloat32;
  return backend != ExpertsImplementation::kBatchedMm || tokens <= kTimedBatched;
}

// The mean over the inputs that are timed.
double ActiveExperts(const Model& model, const std::vector<Inputs>& sets) {
  int64_t sum = 0;
  for (int i = 0; i < kInputSets; ++i) sum += sets[i].ActiveExperts(model.experts);
  return static_cast<double>(sum) / kInputSets;
}

void PrintTimes(const Bench& bench, const Model& model, DType dtype, double active, int64_t tokens,
                double time, double graph_time) {
  const double best = graph_time > 0.0 ? std::min(time, graph_time) : time;
  const double size = static_cast<double>(ElementSize(dtype));
  const double expert = 3.0 * model.hidden * model.intermediate;
  const double bytes = (active * expert + 2.0 * static_cast<double>(tokens) * model.hidden) * size;
  const double rate = bytes / best * 1e-3;
  const double flops = 2.0 * static_cast<double>(tokens) * model.top_k * expert / best * 1e-6;
  std::printf(" %9.1f | ", time);
  graph_time > 0.0 ? std::printf("%9.1f", graph_time) : std::printf("%9s", "-");
  std::printf(" | %6.0f (%3.0f%%) | ", rate, 100.0 * rate / bench.copy_rate);
  bench.matrix_rate > 0.0 ? std::printf("%6.1f (%3.0f%%) |\n", flops, 100.0 * flops / bench.matrix_rate)
                          : std::printf("%6.1f |\n", flops);
}

bool UsesWgmma(const Bench& bench, const Experts& experts) {
  return bench.compute_capability_major == 9 && experts.table.dtype != DType::kFloat32 &&
         !experts.table.transposed;
}

void RunCase(Bench& bench, const Model& model, const Experts& experts, int64_t tokens, bool skewed,
             bool timed) {
  const DType dtype = experts.table.dtype;
  std::vector<Inputs> sets;
  for (uint32_t i = 0; i <= kInputSets; ++i) {
    sets.emplace_back(model, dtype, tokens, skewed,
                      static_cast<uint32_t>(tokens) * 31 + i + (skewed ? 7919 : 0));
  }
  for (int b = 0; b < kInputSets; ++b) {  // as many as there are backends
    const Backend& timed_backend = kBackends[b];
    const ExpertsImplementation backend = timed_backend.implementation;
    const bool grouped = backend == ExpertsImplementation::kGroupedMm;
    if (grouped && !timed_backend.use_wgmma && !UsesWgmma(bench, experts)) continue;  // as the one before
    const bool eager = backend == ExpertsImplementation::kEager;
    DeviceBuffer workspace(MoeWorkspaceBytes(backend, experts.table, tokens, model.top_k));
    std::vector<MoeExpertsArgs> args;
    for (const Inputs& inputs : sets) {
      args.push_back(MakeArgs(model, experts, inputs, tokens, workspace));
      args.back().use_wgmma = timed_backend.use_wgmma;
    }
    // What the checks overwrite is not timed: equal neighbours would find their weights in the cache.
    double error = Check(bench, backend, args[kInputSets], sets[kInputSets], workspace);
    if (!eager)
      error = std::max(error, CheckReplay(bench, backend, args[kInputSets], sets[kInputSets], sets[b]));
    std::printf("| %s | %s | %s | %lld | %s | %.1e%s |", model.name, NameOf(dtype),
                skewed ? "skewed" : "uniform", static_cast<long long>(tokens), timed_backend.name, error,
                error <= Tolerance(dtype) ? "" : " WRONG");
    if (!timed || !IsTimed(backend, dtype, tokens)) {
      std::printf("\n");
      std::fflush(stdout);
      continue;
    }
    const auto call = [&](int i) { Launch(bench, backend, args[i % kInputSets]); };
    const double time = MedianMicroseconds(bench.stream, call);
    const double graph_time = eager ? 0.0 : MedianGraphMicroseconds(bench.stream, kInputSets, call);
    PrintTimes(bench, model, dtype, ActiveExperts(model, sets), tokens, time, graph_time);
    std::fflush(stdout);
  }
}

void RunModel(Bench& bench, const Model& model, Layout layout, const std::string& dtype_name, bool quick) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    if (!dtype_name.empty() && dtype_name != NameOf(dtype)) continue;
    const Experts experts(model, dtype, layout);
    for (const bool skewed : {false, true}) {
      const auto run = [&](int64_t tokens) { RunCase(bench, model, experts, tokens, skewed, !quick); };
      if (quick) {
        std::for_each(std::begin(kQuickTokenCounts), std::end(kQuickTokenCounts), run);
      } else {
        std::for_each(std::begin(kTokenCounts), std::end(kTokenCounts), run);
      }
    }
  }
}

void PrintCard() {
  int device = 0, driver = 0, runtime = 0;
  cudaDeviceProp properties = {};
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
  CHECK_CUDA(cudaDriverGetVersion(&driver));
  CHECK_CUDA(cudaRuntimeGetVersion(&runtime));
  std::printf("%s, compute capability %d.%d, driver for CUDA %d.%d, runtime %d.%d, GEMMs %s\n",
              properties.name, properties.major, properties.minor, driver / 1000, driver % 1000 / 10,
              runtime / 1000, runtime % 1000 / 10,
              GemmUsesCublasLt() ? "through cuBLASLt" : "without cuBLASLt");
}

void MeasureCard(Bench& bench) {
  bench.copy_rate = MeasureCopyRate(bench.stream);
  bench.matrix_rate = MeasureMatrixRate(*bench.gemm, bench.stream);
  std::printf("measured: copy %.0f GB/s, host to device %.1f GB/s", bench.copy_rate,
              MeasureUploadRate(bench.stream));
  if (bench.matrix_rate > 0.0) std::printf(", bf16 matrix product %.0f TFLOP/s", bench.matrix_rate);
  std::printf("\n\n");
}

void PrintHeader(Layout layout) {
  std::printf("\nweights %s\n\n", kLayoutNames[static_cast<int>(layout)]);
  std::printf(
      "| model | dtype | routing | tokens | backend | error | µs | µs in a graph | GB/s (of copy) | TFLOP/s "
      "(of matrix) |\n");
  std::printf("| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n");
}

int Main(int argc, char** argv) {
  bool quick = false;
  std::string layout_name, model_name, dtype_name;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else if (std::strcmp(argv[i], "--layout") == 0 && i + 1 < argc) {
      layout_name = argv[++i];
    } else if (std::strcmp(argv[i], "--model") == 0 && i + 1 < argc) {
      model_name = argv[++i];
    } else if (std::strcmp(argv[i], "--dtype") == 0 && i + 1 < argc) {
      dtype_name = argv[++i];
    } else if (std::strcmp(argv[i], "--milliseconds") == 0 && i + 1 < argc) {
      SetMeasurementBudget(std::max(1, std::atoi(argv[++i])));
    } else {
      std::fprintf(stderr,
                   "usage: bench [--quick] [--layout separate|fused|transposed] [--model qwen2|qwen3]\n"
                   "             [--dtype bfloat16|float16|float32] [--milliseconds N]\n");
      return 2;
    }
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // lines arrive as they are printed, in a file as well
  Bench bench;
  CHECK_CUDA(cudaStreamCreate(&bench.stream));  // ordered with the default stream, which fills buffers
  CHECK_CUDA(CreateGemmContext(&bench.gemm));
  int device = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(
      cudaDeviceGetAttribute(&bench.compute_capability_major, cudaDevAttrComputeCapabilityMajor, device));
  PrintCard();
  if (!quick) MeasureCard(bench);
  bench.failures += CheckOtherKernels(*bench.gemm, bench.stream);
  bench.failures += CheckCodedKernels(*bench.gemm, bench.stream);
  bench.failures += CheckDecoderKernels(bench.stream);
  bench.failures += CheckDecodeSteps(*bench.gemm, bench.stream);
  if (!quick) TimeOtherKernels(*bench.gemm, bench.stream, bench.copy_rate);
  if (!quick) TimeCodedKernels(*bench.gemm, bench.stream, bench.copy_rate);
  if (!quick) bench.failures += TimeDecoderKernels(bench.stream, bench.copy_rate, bench.matrix_rate);
  for (const Layout layout : {Layout::kSeparate, Layout::kFused, Layout::kTransposed}) {
    const bool chosen = layout_name.empty() ? quick || layout == Layout::kSeparate
                                            : layout_name == kLayoutNames[static_cast<int>(layout)];
    if (!chosen) continue;
    PrintHeader(layout);
    if (quick) {
      RunModel(bench, kQuickModel, layout, dtype_name, true);
      continue;
    }
    for (const Model& model : kModels) {
      if (model_name.empty() || model_name == model.name) RunModel(bench, model, layout, dtype_name, false);
    }
  }
  DestroyGemmContext(bench.gemm);
  CHECK_CUDA(cudaStreamDestroy(bench.stream));
  std::printf("\n%d failures\n", bench.failures);
  return bench.failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace switchyard::cuda::bench

int main(int argc, char** argv) { return switchyard::cuda::bench::Main(argc, argv); }
