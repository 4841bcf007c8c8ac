// Checks kernels that follow one another as in a decode step: on devices where a kernel starts before the one
// before it has ended, none may read what is not there yet. Whole steps, with copies and clearings at their
// beginning, are run and replayed on inputs that take turns, over poisoned intermediate results, and every
// bit is compared with steps that wait for the device after each launcher.
#include <cmath>
#include <cstring>
#include <string>

#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int kLayers = 4;
constexpr int kInputs = 2;
constexpr int kRuns = 80;
constexpr int kHidden = 2048, kHeads = 32, kKvHeads = 4, kHeadDim = 128;
constexpr int kExperts = 16, kTopK = 8, kIntermediate = 768;
constexpr int kBlockSize = 64, kBlocks = 9;  // of a row
constexpr int kPast = 511;
constexpr DType kType = DType::kBFloat16;

size_t Floats(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

// A layer's weights and cache.
struct Layer {
  Layer(int64_t tokens, uint32_t seed)
      : q(RandomBuffer(kType, int64_t{kHeads} * kHeadDim * kHidden, 0.04f, seed)),
        k(RandomBuffer(kType, int64_t{kKvHeads} * kHeadDim * kHidden, 0.04f, seed + 1)),
        v(RandomBuffer(kType, int64_t{kKvHeads} * kHeadDim * kHidden, 0.04f, seed + 2)),
        o(RandomBuffer(kType, int64_t{kHeads} * kHeadDim * kHidden, 0.04f, seed + 3)),
        norm(RandomBuffer(kType, kHeadDim, 1.5f, seed + 4)),
        router(RandomBuffer(kType, int64_t{kExperts} * kHidden, 0.04f, seed + 5)),
        gate_up(RandomBuffer(kType, int64_t{2} * kExperts * kIntermediate * kHidden, 0.05f, seed + 6)),
        down(RandomBuffer(kType, int64_t{1} * kExperts * kIntermediate * kHidden, 0.1f, seed + 7)),
        keys(RandomBuffer(kType, tokens * kBlocks * kBlockSize * kKvHeads * kHeadDim, 1.0f, seed + 8)),
        values(RandomBuffer(kType, tokens * kBlocks * kBlockSize * kKvHeads * kHeadDim, 1.0f, seed + 9)),
        host(3 * kExperts),
        device(host.size() * sizeof(void*)) {
    experts.dtype = kType;
    experts.num_experts = kExperts;
    experts.hidden = kHidden;
    experts.intermediate = kIntermediate;
    FillFusedExperts(gate_up.data(), down.data(), host.data(), device.As<const void*>(), &experts);
    CHECK_CUDA(cudaMemcpy(device.data(), host.data(), device.bytes(), cudaMemcpyHostToDevice));
  }
  DeviceBuffer q, k, v, o, norm, router, gate_up, down, keys, values;
  std::vector<const void*> host;
  DeviceBuffer device;
  ExpertTable experts;
};

// Where rows of one token each lie, and the intermediate results of a step, which its layers share.
class Steps {
 public:
  Steps(GemmContext& gemm, cudaStream_t stream, int64_t tokens)
      : gemm_(gemm),
        stream_(stream),
        tokens_(tokens),
        input_(Floats(tokens * kHidden)),
        x_(input_.bytes()),
        q_(Floats(tokens * kHeads * kHeadDim)),
        k_(Floats(tokens * kKvHeads * kHeadDim)),
        v_(k_.bytes()),
        attended_(q_.bytes()),
        mixed_(x_.bytes()),
        logits_(Floats(tokens * kExperts)),
        indices_(Floats(tokens * kTopK)),
        weights_(indices_.bytes()),
        cos_(RandomBuffer(DType::kFloat32, tokens * kHeadDim / 2, 1.0f, 90)),
        sin_(RandomBuffer(DType::kFloat32, tokens * kHeadDim / 2, 1.0f, 91)),
        counters_(Upload(std::vector<uint32_t>(kAttentionCounters, 0))) {
    std::vector<int32_t> starts, tables;
    for (int64_t t = 0; t <= tokens; ++t) starts.push_back(static_cast<int32_t>(t));
    for (int64_t t = 0; t < tokens * kBlocks; ++t)
      tables.push_back(static_cast<int32_t>(tokens * kBlocks - 1 - t));
    starts_ = Upload(starts);
    lengths_ = Upload(std::vector<int32_t>(static_cast<size_t>(tokens), kPast));
    tables_ = Upload(tables);
    for (uint32_t i = 0; i < kLayers; ++i) layers_.emplace_back(tokens, 100 + 20 * i);
    for (uint32_t i = 0; i < kInputs; ++i)
      inputs_.push_back(RandomBuffer(DType::kFloat32, tokens * kHidden, 1.0f, 80 + i));
    attention_ = DeviceBuffer(CachedAttentionWorkspaceBytes(AttentionOf(layers_[0])));
    moe_ =
        DeviceBuffer(MoeWorkspaceBytes(ExpertsImplementation::kBatchedMm, layers_[0].experts, tokens, kTopK));
  }

  // What a step makes of an input, waiting after every launcher.
  std::vector<float> RunSlowly(int input) {
    Choose(input);
    LaunchStep(true);
    return Download<float>(x_);
  }

  // The same, not waiting, by launches and by replays of a graph; the number of those that came to something
  // else.
  int RunQuickly(const std::vector<std::vector<float>>& expected) {
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    LaunchStep(false);
    CHECK_CUDA(cudaStreamEndCapture(stream_, &graph));
    cudaGraphExec_t executable = nullptr;
    CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    int wrong = 0;
    for (int i = 0; i < kRuns; ++i) {
      const int input = i / 2 % kInputs;
      Choose(input);
      if (i % 2 == 0) {
        LaunchStep(false);
      } else {
        CHECK_CUDA(cudaGraphLaunch(executable, stream_));
      }
      CHECK_CUDA(cudaStreamSynchronize(stream_));
      const std::vector<float>& wanted = expected[static_cast<size_t>(input)];
      wrong += std::memcmp(Download<float>(x_).data(), wanted.data(), x_.bytes()) == 0 ? 0 : 1;
    }
    CHECK_CUDA(cudaGraphExecDestroy(executable));
    CHECK_CUDA(cudaGraphDestroy(graph));
    return wrong;
  }

 private:
  void Choose(int input) {
    CHECK_CUDA(cudaMemcpy(input_.data(), inputs_[static_cast<size_t>(input)].data(), input_.bytes(),
                          cudaMemcpyDeviceToDevice));
  }

  void LaunchStep(bool slowly) {
    for (DeviceBuffer* buffer :
         {&q_, &k_, &v_, &attended_, &mixed_, &logits_, &indices_, &weights_, &attention_, &moe_}) {
      // An index has to be one of an expert, though of the wrong one.
      const int value = buffer == &indices_ ? 0 : 0xff;
      CHECK_CUDA(cudaMemsetAsync(buffer->data(), value, buffer->bytes(), stream_));
    }
    CHECK_CUDA(cudaMemcpyAsync(x_.data(), input_.data(), x_.bytes(), cudaMemcpyDeviceToDevice, stream_));
    for (Layer& layer : layers_) Launch(layer, slowly);
  }

  CachedAttentionArgs AttentionOf(Layer& layer) const {
    CachedAttentionArgs args;
    args.dtype = kType;
    args.tokens = args.rows = tokens_;
    args.heads = kHeads;
    args.kv_heads = kKvHeads;
    args.head_dim = kHeadDim;
    args.pairs = kHeadDim / 2;
    args.blocks = tokens_ * kBlocks;
    args.block_size = kBlockSize;
    args.max_blocks = kBlocks;
    args.q = q_.As<float>();
    args.k = k_.As<float>();
    args.v = v_.As<float>();
    args.cos = cos_.As<float>();
    args.sin = sin_.As<float>();
    args.q_norm = args.k_norm = layer.norm.data();
    args.epsilon = 1e-6f;
    args.keys = layer.keys.data();
    args.values = layer.values.data();
    args.row_starts = starts_.As<int32_t>();
    args.past_lengths = lengths_.As<int32_t>();
    args.block_tables = tables_.As<int32_t>();
    args.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    args.out = attended_.As<float>();
    args.counters = counters_.As<uint32_t>();
    args.workspace = attention_.data();
    args.workspace_bytes = attention_.bytes();
    return args;
  }

  void Launch(Layer& layer, bool slowly) {
    const auto launch = [&](cudaError_t status) {
      CHECK_CUDA(status);
      if (slowly) CHECK_CUDA(cudaStreamSynchronize(stream_));
    };
    GemvArgs gemv;
    gemv.dtype = kType;
    gemv.m = tokens_;
    gemv.k = kHidden;
    gemv.x = x_.As<float>();
    gemv.count = 3;
    gemv.weights[0] = {layer.q.data(), kHidden, kHeads * kHeadDim, nullptr, q_.As<float>()};
    gemv.weights[1] = {layer.k.data(), kHidden, kKvHeads * kHeadDim, nullptr, k_.As<float>()};
    gemv.weights[2] = {layer.v.data(), kHidden, kKvHeads * kHeadDim, nullptr, v_.As<float>()};
    launch(LaunchGemv(gemv, stream_));
    launch(LaunchCachedAttention(AttentionOf(layer), stream_));
    gemv.k = kHeads * kHeadDim;
    gemv.x = attended_.As<float>();
    gemv.count = 1;
    gemv.weights[0] = {layer.o.data(), gemv.k, kHidden, nullptr, mixed_.As<float>()};
    launch(LaunchGemv(gemv, stream_));
    RouterArgs router;
    router.dtype = kType;
    router.x = mixed_.data();
    router.tokens = tokens_;
    router.weight = layer.router.data();
    router.num_experts = kExperts;
    router.hidden = kHidden;
    router.top_k = kTopK;
    router.normalize = true;
    router.logits = logits_.As<float>();
    router.indices = indices_.As<int32_t>();
    router.weights = weights_.As<float>();
    router.float32_inputs = true;
    launch(LaunchRouter(gemm_, router, stream_));
    MoeExpertsArgs moe;
    moe.x = mixed_.data();
    moe.float32_inputs = true;
    moe.tokens = tokens_;
    moe.experts = layer.experts;
    moe.indices = router.indices;
    moe.weights = router.weights;
    moe.top_k = kTopK;
    moe.y = x_.data();
    moe.y_dtype = DType::kFloat32;
    moe.workspace = moe_.data();
    moe.workspace_bytes = moe_.bytes();
    launch(LaunchMoeBatchedMm(moe, stream_));
  }

  GemmContext& gemm_;
  cudaStream_t stream_;
  int64_t tokens_;
  DeviceBuffer input_, x_, q_, k_, v_, attended_, mixed_, logits_, indices_, weights_;
  DeviceBuffer cos_, sin_, counters_, starts_, lengths_, tables_, attention_, moe_;
  std::vector<Layer> layers_;
  std::vector<DeviceBuffer> inputs_;
};

int CheckSteps(GemmContext& gemm, cudaStream_t stream, int64_t tokens) {
  Steps steps(gemm, stream, tokens);
  std::vector<std::vector<float>> expected;
  bool finite = true;
  for (int i = 0; i < kInputs; ++i) {
    expected.push_back(steps.RunSlowly(i));
    for (const float value : expected.back()) finite = finite && std::isfinite(value);
  }
  const int wrong = steps.RunQuickly(expected);
  const bool passed = finite && wrong == 0 && expected[0] != expected[1];
  std::printf("steps of %d layers, %d rows                 %d of %d differ %s\n", kLayers,
              static_cast<int>(tokens), wrong, kRuns, passed ? "ok" : "WRONG");
  return passed ? 0 : 1;
}

}  // namespace

int CheckDecodeSteps(GemmContext& gemm, cudaStream_t stream) {
  int failures = 0;
  for (const int64_t tokens : {1, 2, 4}) failures += CheckSteps(gemm, stream, tokens);
  return failures;
}

}  // namespace switchyard::cuda::bench
