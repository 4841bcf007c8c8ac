// Checks of the launchers beside the experts, against loops on the host.
#include <algorithm>
#include <cmath>
#include <string>

#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

constexpr DType kTypes[] = {DType::kBFloat16, DType::kFloat16, DType::kFloat32};
// Of logits in fp32: tensor cores cut off what they add instead of rounding it; 16-bit results are far worse.
constexpr double kLogitsTolerance = 5e-5;

double Tolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 1e-5;
  return dtype == DType::kFloat16 ? 2e-3 : 1e-2;
}

int Report(const std::string& what, double error, double tolerance) {
  const bool passed = error <= tolerance;
  std::printf("%-40s error %.1e %s\n", what.c_str(), error, passed ? "ok" : "WRONG");
  return passed ? 0 : 1;
}

std::vector<float> Multiply(const std::vector<float>& a, const std::vector<float>& w, int64_t m, int64_t n,
                            int64_t k) {
  std::vector<float> out(m * n);
  for (int64_t i = 0; i < m * n; ++i) {
    double sum = 0.0;
    for (int64_t j = 0; j < k; ++j) sum += double{a[i / n * k + j]} * w[i % n * k + j];
    out[i] = static_cast<float>(sum);
  }
  return out;
}

int CheckLinear(GemmContext& gemm, cudaStream_t stream, DType dtype, DType out_dtype, int64_t m, int64_t n,
                int64_t k) {
  const DeviceBuffer a = RandomBuffer(dtype, m * k, 1.0f, 1), w = RandomBuffer(dtype, n * k, 1.0f, 2);
  const DeviceBuffer bias = RandomBuffer(dtype, n, 8.0f, 3), out(m * n * ElementSize(out_dtype));
  LinearArgs args;
  args.dtype = dtype;
  args.m = m;
  args.n = n;
  args.k = args.a_stride = args.w_stride = k;
  args.a = a.data();
  args.w = w.data();
  args.bias = bias.data();
  args.out = out.data();
  args.out_dtype = out_dtype;
  args.out_stride = n;
  CHECK_CUDA(LaunchLinear(gemm, args, stream));
  std::vector<float> expected = Multiply(DownloadFloats(a, dtype), DownloadFloats(w, dtype), m, n, k);
  const std::vector<float> added = DownloadFloats(bias, dtype);
  for (int64_t i = 0; i < m * n; ++i) expected[i] += added[i % n];
  return Report("linear " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k),
                RelativeError(DownloadFloats(out, out_dtype), expected), Tolerance(dtype));
}

// Weights of the given numbers of outputs on the same few rows, which are to be rounded.
struct GemvCase {
  GemvCase(DType dtype_, int64_t m, int64_t k, const std::vector<int64_t>& outputs, uint32_t seed)
      : x(RandomBuffer(DType::kFloat32, m * k, 1.0f, seed)) {
    args.dtype = dtype_;
    args.m = m;
    args.k = k;
    args.x = x.As<float>();
    args.count = static_cast<int>(outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int64_t n = outputs[i];
      const uint32_t own = seed + 3 * static_cast<uint32_t>(i);
      weights.push_back(RandomBuffer(dtype_, n * k, 0.1f, own + 1));
      biases.push_back(RandomBuffer(dtype_, n, 1.0f, own + 2));
      outs.push_back(DeviceBuffer(m * n * sizeof(float)));
      args.weights[i] = {weights[i].data(), k, n, biases[i].data(), outs[i].As<float>()};
      bytes += static_cast<double>(n * k) * static_cast<double>(ElementSize(dtype_));
    }
  }
  GemvArgs args;
  DeviceBuffer x;
  std::vector<DeviceBuffer> weights, biases, outs;
  double bytes = 0.0;  // of the weights
};

// "1 x (512 + 64) x 2048"
std::string ShapeOf(const GemvArgs& args) {
  std::string outputs;
  for (int i = 0; i < args.count; ++i) {
    outputs += (i == 0 ? "" : " + ") + std::to_string(args.weights[i].n);
  }
  return std::to_string(args.m) + " x (" + outputs + ") x " + std::to_string(args.k);
}

// The dot products of inputs that were rounded to the weights' type.
int CheckGemv(cudaStream_t stream, DType dtype, int64_t m, int64_t k, const std::vector<int64_t>& outputs) {
  const GemvCase c(dtype, m, k, outputs, 20);
  const DeviceBuffer rounded(m * k * ElementSize(dtype));
  CHECK_CUDA(LaunchConvert(c.x.data(), DType::kFloat32, rounded.data(), dtype, m * k, stream));
  CHECK_CUDA(LaunchGemv(c.args, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> x = DownloadFloats(rounded, dtype);
  double worst = 0.0;
  for (int i = 0; i < c.args.count; ++i) {
    const int64_t n = c.args.weights[i].n;
    std::vector<float> expected = Multiply(x, DownloadFloats(c.weights[i], dtype), m, n, k);
    const std::vector<float> bias = DownloadFloats(c.biases[i], dtype);
    for (int64_t j = 0; j < m * n; ++j) expected[j] += bias[j % n];
    worst = std::max(worst, RelativeError(Download<float>(c.outs[i]), expected));
  }
  return Report("few rows " + ShapeOf(c.args), worst, 1e-5);
}

// The weights must belong to the chosen experts, and the choice must be the largest logits the kernel itself
// reports.
double TopKError(const std::vector<float>& logits, const std::vector<int32_t>& indices,
                 const std::vector<float>& weights, int experts, int top_k) {
  double worst = 0.0;
  for (size_t token = 0; token * experts < logits.size(); ++token) {
    const float* row = logits.data() + token * experts;
    std::vector<int> order(experts);
    for (int e = 0; e < experts; ++e) order[e] = e;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
    double sum = 0.0;
    for (int i = 0; i < top_k; ++i) sum += std::exp(double{row[order[i]]} - row[order[0]]);
    for (int i = 0; i < top_k; ++i) {
      const double weight = std::exp(double{row[order[i]]} - row[order[0]]) / sum;
      const bool same = indices[token * top_k + i] == order[i];
      worst = std::max(worst, same ? std::fabs(weights[token * top_k + i] - weight) : 1.0);
    }
  }
  return worst;
}

int CheckRouter(GemmContext& gemm, cudaStream_t stream, DType dtype, int64_t tokens, bool float32_inputs) {
  const int experts = 128, hidden = 2048, top_k = 8;
  const DeviceBuffer unrounded = RandomBuffer(DType::kFloat32, tokens * hidden, 1.0f, 4);
  const DeviceBuffer x(tokens * hidden * ElementSize(dtype));
  CHECK_CUDA(LaunchConvert(unrounded.data(), DType::kFloat32, x.data(), dtype, tokens * hidden, stream));
  const DeviceBuffer weight = RandomBuffer(dtype, int64_t{experts} * hidden, 0.1f, 5);
  const DeviceBuffer logits(tokens * experts * 4), indices(tokens * top_k * 4), weights(tokens * top_k * 4);
  const RouterArgs args = {dtype,
                           float32_inputs ? unrounded.data() : x.data(),
                           tokens,
                           weight.data(),
                           experts,
                           hidden,
                           top_k,
                           true,
                           logits.As<float>(),
                           indices.As<int32_t>(),
                           weights.As<float>(),
                           float32_inputs};
  CHECK_CUDA(LaunchRouter(gemm, args, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> computed = Download<float>(logits);
  const std::vector<float> expected =
      Multiply(DownloadFloats(x, dtype), DownloadFloats(weight, dtype), tokens, experts, hidden);
  const std::string name =
      "router, " + std::to_string(tokens) + " tokens" + (float32_inputs ? " in fp32" : "");
  const double error =
      TopKError(computed, Download<int32_t>(indices), Download<float>(weights), experts, top_k);
  return Report(name + ": logits", RelativeError(computed, expected), kLogitsTolerance) +
         Report(name + ": top-k", error, 1e-5);
}

int CheckGatedMlp(cudaStream_t stream, DType dtype, int64_t tokens) {
  const int hidden = 2048, intermediate = 1408;
  const DeviceBuffer gate_up = RandomBuffer(dtype, int64_t{2} * intermediate * hidden, 0.05f, 10);
  const DeviceBuffer down = RandomBuffer(dtype, int64_t{1} * intermediate * hidden, 0.05f, 11);
  const DeviceBuffer x = RandomBuffer(dtype, tokens * hidden, 1.0f, 12),
                     gate = RandomBuffer(dtype, hidden, 0.1f, 13);
  const DeviceBuffer y(tokens * hidden * 4);
  std::vector<const void*> pointers(3);
  GatedMlpArgs args;
  args.mlp.dtype = dtype;
  args.mlp.num_experts = 1;
  args.mlp.hidden = hidden;
  args.mlp.intermediate = intermediate;
  FillFusedExperts(gate_up.data(), down.data(), pointers.data(), nullptr, &args.mlp);
  const DeviceBuffer workspace(GatedMlpWorkspaceBytes(args.mlp, tokens));
  args.x = x.data();
  args.tokens = tokens;
  args.output_gate = gate.data();
  args.y = y.data();
  args.y_dtype = DType::kFloat32;
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.bytes();
  CHECK_CUDA(LaunchGatedMlp(args, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));

  std::vector<float> weights =
      Multiply(DownloadFloats(x, dtype), DownloadFloats(gate, dtype), tokens, 1, hidden);
  for (float& weight : weights) weight = 1.0f / (1.0f + std::exp(-weight));
  const DeviceBuffer indices = Upload(std::vector<int32_t>(tokens, 0)), scales = Upload(weights);
  MoeExpertsArgs reference;
  reference.x = x.data();
  reference.tokens = tokens;
  reference.experts = args.mlp;
  reference.indices = indices.As<int32_t>();
  reference.weights = scales.As<float>();
  reference.top_k = 1;
  std::vector<int64_t> all(tokens);
  for (int64_t t = 0; t < tokens; ++t) all[t] = t;
  return Report("gated MLP, " + std::to_string(tokens) + " tokens",
                RelativeError(Download<float>(y), ReferenceMoe(reference, all)), Tolerance(dtype));
}

int CheckEmbedding(cudaStream_t stream, DType dtype) {
  const int rows = 1000, hidden = 2048;
  const DeviceBuffer table = RandomBuffer(dtype, int64_t{rows} * hidden, 1.0f, 14);
  const std::vector<int64_t> ids = {0, 999, 5, 5, 512};
  const DeviceBuffer chosen = Upload(ids), out(ids.size() * hidden * 4);
  CHECK_CUDA(LaunchEmbeddingRows(table.data(), dtype, hidden, chosen.As<int64_t>(),
                                 static_cast<int64_t>(ids.size()), out.data(), DType::kFloat32, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> values = DownloadFloats(table, dtype);
  std::vector<float> expected;
  for (const int64_t id : ids) {
    expected.insert(expected.end(), values.begin() + id * hidden, values.begin() + (id + 1) * hidden);
  }
  return Report("embedding rows", RelativeError(Download<float>(out), expected), 0.0);
}

// Weights of several layers, so that they are read from memory and not from the cache.
void TimeGemv(cudaStream_t stream, int64_t m, int64_t k, const std::vector<int64_t>& outputs,
              double copy_rate) {
  constexpr double kMoreThanCaches = 200e6;
  std::vector<GemvCase> layers;
  do {
    layers.emplace_back(DType::kBFloat16, m, k, outputs, 30 + 32 * static_cast<uint32_t>(layers.size()));
  } while (layers.back().bytes * static_cast<double>(layers.size()) < kMoreThanCaches);
  const int count = static_cast<int>(layers.size());
  const auto call = [&](int i) { CHECK_CUDA(LaunchGemv(layers[i % count].args, stream)); };
  const double time = MedianMicroseconds(stream, call);
  const double graph = MedianGraphMicroseconds(stream, count, call);
  const double rate = layers[0].bytes / std::min(time, graph) * 1e-3;
  std::printf("| %s | %.1f | %.1f | %.0f (%.0f%%) |\n", ShapeOf(layers[0].args).c_str(), time, graph, rate,
              100.0 * rate / copy_rate);
}

void TimeRouter(GemmContext& gemm, cudaStream_t stream, int64_t tokens) {
  const int experts = 128, hidden = 2048, top_k = 8;
  const DeviceBuffer x = RandomBuffer(DType::kFloat32, tokens * hidden, 1.0f, 4);
  const DeviceBuffer weight = RandomBuffer(DType::kBFloat16, int64_t{experts} * hidden, 0.1f, 5);
  const DeviceBuffer logits(tokens * experts * 4), indices(tokens * top_k * 4), weights(tokens * top_k * 4);
  RouterArgs args;
  args.x = x.data();
  args.float32_inputs = true;
  args.tokens = tokens;
  args.weight = weight.data();
  args.num_experts = experts;
  args.hidden = hidden;
  args.top_k = top_k;
  args.logits = logits.As<float>();
  args.indices = indices.As<int32_t>();
  args.weights = weights.As<float>();
  const auto call = [&](int) { CHECK_CUDA(LaunchRouter(gemm, args, stream)); };
  std::printf("| router, %lld x %d x %d | %.1f | %.1f | |\n", static_cast<long long>(tokens), experts, hidden,
              MedianMicroseconds(stream, call), MedianGraphMicroseconds(stream, 16, call));
}

}  // namespace

void TimeOtherKernels(GemmContext& gemm, cudaStream_t stream, double copy_rate) {
  std::printf("\nfew rows, bfloat16 weights, one launch for several\n\n");
  std::printf("| rows x outputs x inputs | µs | µs in a graph | GB/s (of copy) |\n");
  std::printf("| --- | ---: | ---: | ---: |\n");
  for (const int64_t m : {1, 2, 4}) {
    TimeGemv(stream, m, 2048, {4096, 512, 512}, copy_rate);
    TimeGemv(stream, m, 4096, {2048}, copy_rate);
  }
  TimeGemv(stream, 1, 2048, {512}, copy_rate);
  TimeGemv(stream, 1, 2048, {8192, 4096, 64}, copy_rate);
  TimeGemv(stream, 1, 2048, {151936}, copy_rate);
  for (const int64_t tokens : {1, 4}) TimeRouter(gemm, stream, tokens);
}

int CheckOtherKernels(GemmContext& gemm, cudaStream_t stream) {
  int failures = 0;
  for (const DType dtype : kTypes) {
    for (const int64_t m : {1, 33}) {
      failures += CheckLinear(gemm, stream, dtype, dtype, m, 512, 1024);
      failures += CheckLinear(gemm, stream, dtype, DType::kFloat32, m, 512, 1024);
    }
    for (int64_t m = 1; m <= kMostRowsOfGemv; ++m) {
      failures += CheckGemv(stream, dtype, m, 2048, {512, 64, 7});
      failures += CheckGemv(stream, dtype, m, 1416, {1023});
    }
    failures += CheckGemv(stream, dtype, 1, 2048, {4096, 512, 512});
    failures += CheckGemv(stream, dtype, 1, 4096, {2048});
    for (const int64_t tokens : {1, 100}) failures += CheckRouter(gemm, stream, dtype, tokens, false);
    for (const int64_t tokens : {1, 4}) failures += CheckRouter(gemm, stream, dtype, tokens, true);
    for (const int64_t tokens : {1, 8, 100}) failures += CheckGatedMlp(stream, dtype, tokens);
    failures += CheckEmbedding(stream, dtype);
  }
  return failures;
}

}  // namespace switchyard::cuda::bench
