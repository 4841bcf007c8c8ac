#include "gpu_ops.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "../../common/float_types.h"

namespace switchyard::ops {
namespace {

constexpr int kImplementations = 3;
// What the router's kernel is made for.
constexpr int64_t kMostExperts = 512, kMostChosen = 32;
// Of the kernel that picks candidates.
constexpr int64_t kMostCandidates = 1024;

size_t Bytes(int64_t count, DType dtype) { return static_cast<size_t>(count * DTypeSize(dtype)); }

}  // namespace

void CheckLaunch(const std::string& node, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(node + ": the GPU reports an error: " + CudaErrorText(status));
}

Activations::Activations(ScratchPieces& scratch, DType dtype, const void* fp32, int64_t count)
    : dtype_(dtype), fp32_(fp32), count_(count) {
  if (dtype != DType::kFloat32) piece_ = scratch.Add(Bytes(count, dtype));
}

const void* Activations::Convert(const GpuSession& session, const ScratchPieces& scratch) const {
  if (dtype_ == DType::kFloat32) return fp32_;
  CheckCuda(cuda::LaunchConvert(fp32_, DType::kFloat32, scratch[piece_], dtype_, count_,
                                session.device->cuda_stream()),
            "converting activations");
  return scratch[piece_];
}

OpSchema GpuLinear::Schema() { return {"Linear", {{ort::kFloat}}, {{ort::kFloat, ort::kVariadic}}}; }

GpuLinear::GpuLinear(const KernelInfo& info, GpuSession& session) : session_(session), node_(info.node()) {
  const LinearAttributes attributes(info, session.store->weights());
  for (const WeightMatrix& weight : attributes.weights) weights_.push_back(session.store->Require(weight));
  for (const WeightMatrix& bias : attributes.biases) biases_.push_back(session.store->Require(bias));
}

void GpuLinear::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  const int64_t width = weights_[0].shape.cols;
  CheckLast(node_, "x", x.shape, width);
  std::vector<float*> outputs;
  for (size_t i = 0; i < weights_.size(); i++) {
    outputs.push_back(context.Output<float>(i, WithLast(x.shape, weights_[i].shape.rows)));
  }
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * width);
  scratch.Allocate(*session_.device);
  const void* a = activations.Convert(session_, scratch);
  for (size_t i = 0; i < weights_.size(); i++) {
    const WeightMatrix& shape = weights_[i].shape;
    CheckLaunch(node_, cuda::LaunchLinear(session_.device->gemm(),
                                          {.dtype = dtype,
                                           .m = tokens,
                                           .n = shape.rows,
                                           .k = shape.cols,
                                           .a = a,
                                           .a_stride = shape.cols,
                                           .w = weights_[i].Data(dtype),
                                           .w_stride = shape.stride,
                                           .transposed = shape.transposed,
                                           .bias = biases_[i].Data(dtype),
                                           .out = outputs[i],
                                           .out_dtype = DType::kFloat32,
                                           .out_stride = shape.rows},
                                          session_.device->cuda_stream()));
  }
}

OpSchema GpuEmbedding::Schema() { return {"Embedding", {{ort::kInt64}}, {{ort::kFloat}}}; }

GpuEmbedding::GpuEmbedding(const KernelInfo& info, GpuSession& session)
    : session_(session),
      table_(session.store->Require(EmbeddingAttributes(info, session.store->weights()).table)) {}

// Ids are on the device: whoever feeds them has checked them.
void GpuEmbedding::Compute(KernelContext& context) {
  const ort::TensorView ids = context.Input(0);
  std::vector<int64_t> shape = ids.shape;
  shape.push_back(table_.shape.cols);
  float* out = context.Output<float>(0, shape);
  if (ids.Count() == 0) return;
  CheckCuda(cuda::LaunchEmbeddingRows(table_.Data(session_.dtype()), session_.dtype(),
                                      static_cast<int>(table_.shape.cols), ids.As<int64_t>(), ids.Count(),
                                      out, DType::kFloat32, session_.device->cuda_stream()),
            "looking up embeddings");
}

OpSchema GpuGatedMlp::Schema() { return {"GatedMlp", {{ort::kFloat}}, {{ort::kFloat}}}; }

GpuGatedMlp::GpuGatedMlp(const KernelInfo& info, GpuSession& session)
    : session_(session), node_(info.node()) {
  const GatedMlpAttributes attributes(info, session.store->weights());
  gate_ = session.store->Require(attributes.gate);
  up_ = session.store->Require(attributes.up);
  down_ = session.store->Require(attributes.down);
  output_gate_ = session.store->Require(attributes.output_gate);
}

void GpuGatedMlp::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  const int64_t hidden = gate_.shape.cols;
  CheckLast(node_, "x", x.shape, hidden);
  float* y = context.Output<float>(0, x.shape);
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  const void* pointers[] = {gate_.Data(dtype), up_.Data(dtype), down_.Data(dtype)};
  const cuda::ExpertTable table = {.dtype = dtype,
                                   .num_experts = 1,
                                   .hidden = static_cast<int>(hidden),
                                   .intermediate = static_cast<int>(gate_.shape.rows),
                                   .transposed = false,
                                   .gate_stride = gate_.shape.stride,
                                   .down_stride = down_.shape.stride,
                                   .gate = {nullptr, &pointers[0]},
                                   .up = {nullptr, &pointers[1]},
                                   .down = {nullptr, &pointers[2]}};
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * hidden);
  const size_t bytes = cuda::GatedMlpWorkspaceBytes(table, tokens);
  const size_t workspace = scratch.Add(bytes);
  scratch.Allocate(*session_.device);
  CheckLaunch(node_, cuda::LaunchGatedMlp({.x = activations.Convert(session_, scratch),
                                           .tokens = tokens,
                                           .mlp = table,
                                           .output_gate = output_gate_.Data(dtype),
                                           .y = y,
                                           .y_dtype = DType::kFloat32,
                                           .accumulate = false,
                                           .workspace = scratch[workspace],
                                           .workspace_bytes = bytes},
                                          session_.device->cuda_stream()));
}

OpSchema GpuMoeRouter::Schema() {
  return {"MoeRouter", {{ort::kFloat}}, {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}}};
}

GpuMoeRouter::GpuMoeRouter(const KernelInfo& info, GpuSession& session)
    : session_(session), node_(info.node()) {
  const MoeRouterAttributes attributes(info, session.store->weights());
  if (attributes.weight.rows > kMostExperts || attributes.top_k > kMostChosen) {
    info.Fail("has " + std::to_string(attributes.weight.rows) + " experts and chooses " +
              std::to_string(attributes.top_k) + "; on a GPU the router takes at most " +
              std::to_string(kMostExperts) + " and " + std::to_string(kMostChosen) + ": use device cpu");
  }
  weight_ = session.store->Require(attributes.weight);
  top_k_ = static_cast<int>(attributes.top_k);
  normalize_ = attributes.normalize;
}

void GpuMoeRouter::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, weight_.shape.cols);
  const int64_t experts = weight_.shape.rows;
  const int64_t tokens = LeadingCount(x.shape);
  float* logits = context.Output<float>(0, WithLast(x.shape, experts));
  int32_t* indices = context.Output<int32_t>(1, WithLast(x.shape, top_k_));
  float* weights = context.Output<float>(2, WithLast(x.shape, top_k_));
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * weight_.shape.cols);
  // Outputs nobody reads may be missing; the kernel writes all three.
  const size_t spare_logits = logits == nullptr ? scratch.Add(Bytes(tokens * experts, DType::kFloat32)) : 0;
  scratch.Allocate(*session_.device);
  if (logits == nullptr) logits = static_cast<float*>(scratch[spare_logits]);
  CheckLaunch(node_, cuda::LaunchRouter(session_.device->gemm(),
                                        {.dtype = dtype,
                                         .x = activations.Convert(session_, scratch),
                                         .tokens = tokens,
                                         .weight = weight_.Data(dtype),
                                         .num_experts = static_cast<int>(experts),
                                         .hidden = static_cast<int>(weight_.shape.cols),
                                         .top_k = top_k_,
                                         .normalize = normalize_,
                                         .logits = logits,
                                         .indices = indices,
                                         .weights = weights},
                                        session_.device->cuda_stream()));
}

OpSchema GpuMoeExperts::Schema() {
  return {"MoeExperts",
          {{ort::kFloat},
           {ort::kInt32},
           {ort::kFloat},
           {.type = ort::kInt32, .kind = ort::kRequired, .on_host = true},
           {ort::kInt64}},
          {{ort::kFloat}, {ort::kInt64}}};
}

GpuMoeExperts::GpuMoeExperts(const KernelInfo& info, GpuSession& session)
    : session_(session),
      node_(info.node()),
      attributes_(info, session.store->weights()),
      layer_(session.store->RequireExperts(attributes_)) {}

void GpuMoeExperts::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0), indices = context.Input(1), weights = context.Input(2);
  const ExpertsImplementation implementation = attributes_.CheckImplementation(node_, context.Input(3));
  const ort::TensorView calls = context.Input(4);
  attributes_.CheckShapes(node_, x, indices, weights, calls);
  CudaDevice& device = *session_.device;
  float* y = context.Output<float>(0, x.shape);
  int64_t* counted = context.Output<int64_t>(1, calls.shape);
  if (counted != nullptr) {
    CheckLaunch(node_, cuda::LaunchCountCall(calls.As<int64_t>(), counted, kImplementations,
                                             static_cast<int>(implementation), device.cuda_stream()));
  }
  const int64_t tokens = LeadingCount(x.shape);
  const int64_t top_k = indices.shape.back();
  if (tokens == 0) return;
  if (top_k == 0) {
    CheckLaunch(node_, cudaMemsetAsync(y, 0, Bytes(tokens * attributes_.hidden, DType::kFloat32),
                                       device.cuda_stream()));
    return;
  }
  session_.store->Prepare(layer_, indices.As<int32_t>(), tokens * top_k);
  const cuda::ExpertTable& table = layer_.table();
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * attributes_.hidden);
  const size_t bytes = cuda::MoeWorkspaceBytes(implementation, table, tokens, static_cast<int>(top_k));
  const size_t workspace = scratch.Add(bytes);
  scratch.Allocate(device);
  const cuda::MoeExpertsArgs args = {.x = activations.Convert(session_, scratch),
                                     .tokens = tokens,
                                     .experts = table,
                                     .indices = indices.As<int32_t>(),
                                     .weights = weights.As<float>(),
                                     .top_k = static_cast<int>(top_k),
                                     .y = y,
                                     .y_dtype = DType::kFloat32,
                                     .accumulate = false,
                                     .use_wgmma = false,
                                     .workspace = scratch[workspace],
                                     .workspace_bytes = bytes};
  switch (implementation) {
    case ExpertsImplementation::kEager:
      if (device.capturing()) {
        throw std::runtime_error(node_ +
                                 ": the eager backend waits for the GPU; use batched_mm or grouped_mm");
      }
      return CheckLaunch(node_, cuda::LaunchMoeEager(device.gemm(), args, device.cuda_stream()));
    case ExpertsImplementation::kBatchedMm:
      return CheckLaunch(node_, cuda::LaunchMoeBatchedMm(args, device.cuda_stream()));
    case ExpertsImplementation::kGroupedMm:
      return CheckLaunch(node_, cuda::LaunchMoeGroupedMm(args, device.cuda_stream()));
  }
}

OpSchema GpuAttention::Schema() {
  return {"Attention", {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}, {{ort::kFloat}}};
}

GpuAttention::GpuAttention(const KernelInfo& info, GpuSession& session)
    : session_(session), node_(info.node()), attributes_(info) {}

void GpuAttention::Compute(KernelContext& context) {
  const ort::TensorView q = context.Input(0), k = context.Input(1), v = context.Input(2);
  const int64_t head_dim = HeadSize(node_, "q", q.shape, "[batch, tokens", attributes_.heads);
  const int64_t keys = k.shape.size() == 3 ? k.shape[1] : 0;
  CheckShape(node_, "k", k.shape, {q.shape[0], keys, attributes_.kv_heads * head_dim});
  CheckShape(node_, "v", v.shape, k.shape);
  cuda::AttentionArgs args = {.dtype = session_.dtype(),
                              .batch = q.shape[0],
                              .queries = q.shape[1],
                              .keys = keys,
                              .heads = static_cast<int>(attributes_.heads),
                              .kv_heads = static_cast<int>(attributes_.kv_heads),
                              .head_dim = static_cast<int>(head_dim),
                              .q = q.As<float>(),
                              .k = k.As<float>(),
                              .v = v.As<float>(),
                              .scale = attributes_.scale,
                              .out = context.Output<float>(0, q.shape),
                              .workspace = nullptr,
                              .workspace_bytes = 0};
  if (q.Count() == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::AttentionWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchAttention(args, session_.device->cuda_stream()));
}

OpSchema GpuTopCandidates::Schema() {
  return {"TopCandidates",
          {{ort::kFloat}, {.type = ort::kInt32, .kind = ort::kRequired, .on_host = true}},
          {{ort::kFloat}, {ort::kInt32}}};
}

GpuTopCandidates::GpuTopCandidates(const KernelInfo& info, GpuSession& session)
    : session_(session), node_(info.node()) {}

void GpuTopCandidates::Compute(KernelContext& context) {
  const ort::TensorView logits = context.Input(0), wanted = context.Input(1);
  if (logits.shape.size() != 2 || wanted.Count() != 1) {
    throw std::runtime_error(node_ + ": inputs have shapes " + ShapeText(logits.shape) + " and " +
                             ShapeText(wanted.shape) + "; expected [rows, vocab] and a scalar");
  }
  const int64_t count = *wanted.As<int32_t>();
  const int64_t most = std::min(logits.shape[1], kMostCandidates);
  if (count < 0 || count > most) {
    throw std::runtime_error(node_ + ": input 'count' is " + std::to_string(count) + "; expected 0 to " +
                             std::to_string(most));
  }
  cuda::TopCandidatesArgs args = {.logits = logits.As<float>(),
                                  .rows = logits.shape[0],
                                  .vocab = logits.shape[1],
                                  .k = static_cast<int>(count),
                                  .values = context.Output<float>(0, {logits.shape[0], count}),
                                  .ids = context.Output<int32_t>(1, {logits.shape[0], count}),
                                  .workspace = nullptr,
                                  .workspace_bytes = 0};
  if (args.rows == 0 || count == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::TopCandidatesWorkspaceBytes(args.rows, args.vocab, args.k);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchTopCandidates(args, session_.device->cuda_stream()));
}

}  // namespace switchyard::ops
