// Matrix-vector products of few rows with several weights.
#include "../../../kernels/cuda/kernels.h"
#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::Tensor;

// Weights of the given numbers of outputs, their rows apart by `gap` elements; the second of them has no
// bias.
void CheckGemv(DType dtype, int m, int k, const std::vector<int>& outputs, int gap) {
  const Tensor x(DType::kFloat32, int64_t{m} * k, 1.0f);
  const Tensor rounded = testing::RoundedTo(dtype, x);
  GemvArgs args;
  args.dtype = dtype;
  args.m = m;
  args.k = k;
  args.x = reinterpret_cast<const float*>(x.memory.data());
  args.count = static_cast<int>(outputs.size());
  std::vector<std::unique_ptr<Tensor>> weights, biases;
  std::vector<std::unique_ptr<Guarded>> outs;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int n = outputs[i];
    weights.push_back(std::make_unique<Tensor>(dtype, int64_t{n - 1} * (k + gap) + k, 1.0f));
    biases.push_back(std::make_unique<Tensor>(dtype, n, 1.0f, 2));
    outs.push_back(std::make_unique<Guarded>(size_t{4} * m * n, 4));
    args.weights[i] = {weights[i]->memory.data(), k + gap, n, i == 1 ? nullptr : biases[i]->memory.data(),
                       outs[i]->As<float>()};
  }
  EXPECT(GemvTakes(args), "%d x %d", m, k);
  EXPECT(LaunchGemv(args, nullptr) == cudaSuccess, "%d x %d", m, k);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int n = outputs[i];
    std::vector<double> expected;
    for (int row = 0; row < m; ++row) {
      for (int o = 0; o < n; ++o) {
        double sum = i == 1 ? 0.0 : biases[i]->values[o];
        for (int j = 0; j < k; ++j)
          sum += double{rounded.values[row * k + j]} * weights[i]->values[o * (k + gap) + j];
        expected.push_back(sum);
      }
    }
    ExpectClose(outs[i]->data(), DType::kFloat32, expected, 2e-6, "out");
  }
}

}  // namespace

// One to four rows; one warp an output and several, one output a warp and more than blocks hold at once.
void GemvMatchesTheReference() {
  for (const DType dtype : kTypes) {
    for (int m = 1; m <= kMostRowsOfGemv; ++m) {
      CheckGemv(dtype, m, 40, {5, 1, 13}, 0);
      CheckGemv(dtype, m, 536, {7, 30}, 8);
      CheckGemv(dtype, m, 264, {140, 3, 1, 1, 2, 1, 1, 70}, 0);
      CheckGemv(dtype, m, 8, {1}, 0);
    }
  }
  CheckGemv(DType::kBFloat16, 1, 4104, {3, 2}, 0);
  CheckGemv(DType::kBFloat16, 4, 2080, {6}, 0);
}

void GemvRefusesWhatDoesNotFit() {
  const Tensor x(DType::kFloat32, 5 * 64, 1.0f), w(DType::kBFloat16, 64 * 3, 1.0f);
  const Guarded out(5 * 3 * 4);
  GemvArgs good;
  good.m = 1;
  good.k = 64;
  good.x = reinterpret_cast<const float*>(x.memory.data());
  good.count = 1;
  good.weights[0] = {w.memory.data(), 64, 3, nullptr, out.As<float>()};
  EXPECT(GemvTakes(good), "what fits");
  const auto refuses = [&](const char* what, auto change) {
    GemvArgs args = good;
    change(args);
    EXPECT(!GemvTakes(args) && LaunchGemv(args, nullptr) == cudaErrorInvalidValue, "%s", what);
  };
  refuses("five rows", [](GemvArgs& args) { args.m = 5; });
  refuses("rows of 63", [](GemvArgs& args) { args.k = 63; });
  refuses("a stride of 60", [](GemvArgs& args) { args.k = args.weights[0].w_stride = 60; });
  refuses("no weights", [](GemvArgs& args) { args.count = 0; });
  refuses("too many weights", [](GemvArgs& args) { args.count = kMostGemvWeights + 1; });
  refuses("inputs at an odd address", [](GemvArgs& args) { ++args.x; });
  refuses("weights at an odd address",
          [&](GemvArgs& args) { args.weights[0].w = static_cast<const void*>(w.At(1)); });
  refuses("more than shared memory", [](GemvArgs& args) { args.k = args.weights[0].w_stride = 32768; });
}
