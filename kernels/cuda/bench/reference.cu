// Random data and the reference: written for plainness, with none of the library's kernels.
#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "../moe/moe_internal.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int kThreads = 256;

__device__ uint32_t Hash(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

__global__ void random_kernel(void* out, DType dtype, int64_t count, float scale, uint32_t seed) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const uint32_t bits = Hash(static_cast<uint32_t>(i) ^ Hash(static_cast<uint32_t>(i >> 32) + seed));
  StoreAs(out, dtype, i, (static_cast<float>(bits >> 8) / 8388608.0f - 1.0f) * scale);
}

struct ReferenceParams {
  MoeExpertsArgs args;
  KernelPointers gate, up, down;
  const int64_t* tokens;
  int64_t count;
  float* activations;  // [count, top_k, intermediate]
  float* y;            // [count, hidden]
};

__device__ int64_t WeightIndex(int64_t n, int64_t k, int64_t stride, bool transposed) {
  return transposed ? k * stride + n : n * stride + k;
}

__global__ void reference_activations_kernel(const ReferenceParams p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const ExpertTable& experts = p.args.experts;
  if (i >= p.count * p.args.top_k * experts.intermediate) return;
  const int64_t row = i % experts.intermediate;
  const int64_t slot = i / experts.intermediate;
  const int64_t token = p.tokens[slot / p.args.top_k];
  const int expert = p.args.indices[token * p.args.top_k + slot % p.args.top_k];
  float gate = 0.0f;
  float up = 0.0f;
  for (int64_t k = 0; k < experts.hidden; ++k) {
    const float x = LoadAs(p.args.x, experts.dtype, token * experts.hidden + k);
    const int64_t at = WeightIndex(row, k, experts.gate_stride, experts.transposed);
    gate += x * LoadAs(p.gate.At<void>(expert), experts.dtype, at);
    up += x * LoadAs(p.up.At<void>(expert), experts.dtype, at);
  }
  p.activations[i] = gate / (1.0f + expf(-gate)) * up;
}

__global__ void reference_outputs_kernel(const ReferenceParams p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const ExpertTable& experts = p.args.experts;
  if (i >= p.count * experts.hidden) return;
  const int64_t column = i % experts.hidden;
  const int64_t token = p.tokens[i / experts.hidden];
  float sum = 0.0f;
  for (int slot = 0; slot < p.args.top_k; ++slot) {
    const int expert = p.args.indices[token * p.args.top_k + slot];
    const float* activations =
        p.activations + (i / experts.hidden * p.args.top_k + slot) * experts.intermediate;
    float dot = 0.0f;
    for (int64_t k = 0; k < experts.intermediate; ++k) {
      const int64_t at = WeightIndex(column, k, experts.down_stride, experts.transposed);
      dot += activations[k] * LoadAs(p.down.At<void>(expert), experts.dtype, at);
    }
    sum += p.args.weights[token * p.args.top_k + slot] * dot;
  }
  p.y[i] = sum;
}

dim3 BlocksFor(int64_t count) { return dim3(static_cast<unsigned>(CeilDiv(count, kThreads))); }

}  // namespace

DeviceBuffer RandomBuffer(DType dtype, int64_t count, float scale, uint32_t seed) {
  DeviceBuffer buffer(count * ElementSize(dtype));
  CHECK_CUDA(LaunchKernel(random_kernel, BlocksFor(count), dim3(kThreads), 0, nullptr, buffer.data(), dtype,
                          count, scale, seed));
  CHECK_CUDA(cudaDeviceSynchronize());
  return buffer;
}

std::vector<float> DownloadFloats(const DeviceBuffer& buffer, DType dtype) {
  const int64_t count = static_cast<int64_t>(buffer.bytes() / ElementSize(dtype));
  const DeviceBuffer wide(count * sizeof(float));
  CHECK_CUDA(LaunchConvert(buffer.data(), dtype, wide.data(), DType::kFloat32, count, nullptr));
  CHECK_CUDA(cudaDeviceSynchronize());
  return Download<float>(wide);
}

std::vector<float> ReferenceMoe(const MoeExpertsArgs& args, const std::vector<int64_t>& tokens) {
  const int64_t count = static_cast<int64_t>(tokens.size());
  const DeviceBuffer chosen = Upload(tokens);
  const DeviceBuffer activations(count * args.top_k * args.experts.intermediate * sizeof(float));
  const DeviceBuffer y(count * args.experts.hidden * sizeof(float));
  const ReferenceParams params = {args,
                                  ToKernel(args.experts.gate),
                                  ToKernel(args.experts.up),
                                  ToKernel(args.experts.down),
                                  chosen.As<int64_t>(),
                                  count,
                                  activations.As<float>(),
                                  y.As<float>()};
  CHECK_CUDA(LaunchKernel(reference_activations_kernel,
                          BlocksFor(count * args.top_k * args.experts.intermediate), dim3(kThreads), 0,
                          nullptr, params));
  CHECK_CUDA(LaunchKernel(reference_outputs_kernel, BlocksFor(count * args.experts.hidden), dim3(kThreads), 0,
                          nullptr, params));
  CHECK_CUDA(cudaDeviceSynchronize());
  return Download<float>(y);
}

}  // namespace switchyard::cuda::bench
