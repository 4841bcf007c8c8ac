// batched_mm: matrix-vector products for every (token, expert) pair, bound by the bandwidth of reading
// weights; moe_gemv.cu has those of plain weights in rows of 16-byte packs. The first launch computes
// silu(gate x) * (up x), the second the down product and the weighted sum over a token's experts.
//
// The fast grid axis runs over pairs (or tokens), the slow one over rows: blocks that run together read the
// same rows of an expert several tokens chose, so its weights come from memory once.
#include "../common/coded_rows.cuh"
#include "../common/numeric.cuh"
#include "moe_batched.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
// Blocks a multiprocessor holds at least. Without a number the compiler saves registers by loading one after
// the other what should be in flight together. Codes come with scales, which want registers, too.
constexpr int kGateUpBlocks = 3;
constexpr int kCodedGateUpBlocks = 2;
constexpr int kDownBlocks = 2;

// One row of plain weights, read an element at a time.
template <typename T>
class PlainRow {
 public:
  static constexpr int kWidth = 1;
  static constexpr int kBlocks = kGateUpBlocks;
  using Element = T;
  using Weights = Pack<T, 1>;
  using Inputs = Pack<T, 1>;

  __device__ PlainRow(const KernelPointers& pointers, int expert, int row, int64_t stride)
      : row_(pointers.At<T>(expert) + row * stride) {}
  __device__ Weights Load(int k) const { return LoadWeights<T, 1>(row_ + k); }
  __device__ static Inputs LoadInputs(bool keep, const T* x) { return KeepIf<T, 1>(keep, LoadPack<T, 1>(x)); }
  __device__ float Dot(const Weights& weights, const Inputs& x, float sum) const {
    return fmaf(ToFloat(weights.values[0]), ToFloat(x.values[0]), sum);
  }

 private:
  const T* row_;
};

// One row of a quantized matrix, where moe_batched_coded.cu does not take it.
template <typename T>
class CodedRow {
 public:
  static constexpr int kWidth = kCodeChunk;
  static constexpr int kBlocks = kCodedGateUpBlocks;
  using Element = T;
  using Weights = CodeChunk;
  using Inputs = InputChunk<T>;

  __device__ CodedRow(const KernelPointers& pointers, int expert, int row, int64_t)
      : rows_(pointers.At<void>(expert)), row_(row) {}
  __device__ Weights Load(int k) const { return rows_.Load(row_, k); }
  __device__ static Inputs LoadInputs(bool keep, const T* x) { return LoadInputChunk<T>(keep, x); }
  __device__ float Dot(const Weights& weights, const Inputs& x, float sum) const {
    float values[kCodeChunk];
    rows_.Values(weights, values);
    return rows_.AddDot(weights, values, x, sum);
  }

 private:
  CodedRows rows_;
  int row_;
};

// This lane's share of xa . a and xb . b over k elements; kUnroll pieces of each are in flight at a time.
template <typename Row, int kUnroll>
__device__ void DotTwoRows(const typename Row::Element* xa, const typename Row::Element* xb, const Row& a,
                           const Row& b, int k, float& sum_a, float& sum_b) {
  constexpr int kStep = kWarpSize * Row::kWidth;
  const int lane = threadIdx.x % kWarpSize;
  for (int base = lane * Row::kWidth; base < k; base += kStep * kUnroll) {
    typename Row::Weights wa[kUnroll], wb[kUnroll];
    typename Row::Inputs va[kUnroll], vb[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      // Past the end the first piece is loaded once more and multiplied with zeros: loads that no branch
      // depends on are all in flight together.
      const int i = base + u * kStep;
      const bool inside = i < k;
      const int at = inside ? i : base;
      wa[u] = a.Load(at);
      wb[u] = b.Load(at);
      va[u] = Row::LoadInputs(inside, xa + at);
      vb[u] = Row::LoadInputs(inside, xb + at);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      sum_a = a.Dot(wa[u], va[u], sum_a);
      sum_b = b.Dot(wb[u], vb[u], sum_b);
    }
  }
}

// One warp per output of one pair; gate and up share the loads of x.
template <typename Row>
__global__ void __launch_bounds__(kThreads, Row::kBlocks) moe_gate_up_gemv_kernel(const GateUpParams p) {
  const int pair = blockIdx.x;
  const int row = blockIdx.y * kWarps + threadIdx.x / kWarpSize;
  PrefetchPointers(p);
  WaitForPrevious();
  if (row >= p.intermediate) return;
  using T = typename Row::Element;
  const int expert = p.indices[pair];
  const T* x = static_cast<const T*>(p.x) + static_cast<int64_t>(pair / p.top_k) * p.hidden;
  float gate = 0.0f;
  float up = 0.0f;
  DotTwoRows<Row, 4>(x, x, Row(p.gate, expert, row, p.stride), Row(p.up, expert, row, p.stride), p.hidden,
                     gate, up);
  gate = WarpSum(gate);
  up = WarpSum(up);
  if (threadIdx.x % kWarpSize == 0) {
    static_cast<T*>(p.activations)[static_cast<int64_t>(pair) * p.intermediate + row] =
        FromFloat<T>(Silu(gate) * up);
  }
}

// One warp per output of one token: its experts two at a time, added in slot order.
template <typename Row>
__global__ void __launch_bounds__(kThreads, kDownBlocks) moe_down_gemv_kernel(const DownParams p) {
  const int token = blockIdx.x;
  const int row = blockIdx.y * kWarps + threadIdx.x / kWarpSize;
  WaitForPrevious();
  if (row >= p.hidden) return;
  using T = typename Row::Element;
  const T* activations = static_cast<const T*>(p.activations);
  float sum = 0.0f;
  for (int slot = 0; slot < p.top_k; slot += 2) {
    const int64_t first = static_cast<int64_t>(token) * p.top_k + slot;
    // An odd last slot is paired with itself at weight zero.
    const bool both = slot + 1 < p.top_k;
    const int64_t second = both ? first + 1 : first;
    const Row a(p.down, p.indices[first], row, p.stride);
    const Row b(p.down, p.indices[second], row, p.stride);
    float dot_a = 0.0f;
    float dot_b = 0.0f;
    DotTwoRows<Row, 3>(activations + first * p.intermediate, activations + second * p.intermediate, a, b,
                       p.intermediate, dot_a, dot_b);
    sum += p.weights[first] * WarpSum(dot_a);
    if (both) sum += p.weights[second] * WarpSum(dot_b);
  }
  if (threadIdx.x % kWarpSize == 0) StoreSum(p, token, row, sum);
}

// Transposed weights: a row holds one k for every output, so lanes lie side by side along the outputs, and
// the block's warps and the rest of each warp along k.
constexpr int kColumnLanes = 4;
constexpr int kRowsAtOnce = kThreads / kColumnLanes;

// Adds the shares of all threads with the same columns, in a fixed order. Thread c < columns of the block
// gets the sum of column c; sums[i] is the thread's share of column (threadIdx.x % kColumnLanes) * kVector +
// i.
template <int kVector>
__device__ float SumOverBlock(const float (&sums)[kVector]) {
  constexpr int kColumns = kColumnLanes * kVector;
  float* shared = reinterpret_cast<float*>(SharedMemory());
  const int row = threadIdx.x / kColumnLanes;
  const int column = threadIdx.x % kColumnLanes * kVector;
  __syncthreads();  // an earlier sum may still be read
#pragma unroll
  for (int i = 0; i < kVector; ++i) shared[row * kColumns + column + i] = sums[i];
  for (int half = kRowsAtOnce / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row < half) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        shared[row * kColumns + column + i] += shared[(row + half) * kColumns + column + i];
      }
    }
  }
  __syncthreads();
  return threadIdx.x < kColumns ? shared[threadIdx.x] : 0.0f;
}

// sums[i] += x[k] * w[k * stride + i] over this thread's share of k; kUnroll packs are in flight at a time.
template <typename T, int kVector, int kUnroll>
__device__ void DotColumns(const T* x, const T* w, int64_t stride, int k, float (&sums)[kVector]) {
  for (int base = threadIdx.x / kColumnLanes; base < k; base += kRowsAtOnce * kUnroll) {
    Pack<T, kVector> packs[kUnroll];
    Pack<T, 1> values[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int i = base + u * kRowsAtOnce;
      const int at = i < k ? i : base;
      packs[u] = LoadWeights<T, kVector>(w + at * stride);
      values[u] = KeepIf<T, 1>(i < k, LoadPack<T, 1>(x + at));
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const float value = ToFloat(values[u].values[0]);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sums[i] = fmaf(value, ToFloat(packs[u].values[i]), sums[i]);
    }
  }
}

template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads, kGateUpBlocks)
    moe_gate_up_gemv_transposed_kernel(const GateUpParams p) {
  constexpr int kColumns = kColumnLanes * kVector;
  const int pair = blockIdx.x;
  const int column = blockIdx.y * kColumns + threadIdx.x % kColumnLanes * kVector;
  PrefetchPointers(p);
  WaitForPrevious();
  const int expert = p.indices[pair];
  const T* x = static_cast<const T*>(p.x) + static_cast<int64_t>(pair / p.top_k) * p.hidden;
  float gates[kVector] = {};
  float ups[kVector] = {};
  if (column < p.intermediate) {
    DotColumns<T, kVector, 4>(x, p.gate.At<T>(expert) + column, p.stride, p.hidden, gates);
    DotColumns<T, kVector, 4>(x, p.up.At<T>(expert) + column, p.stride, p.hidden, ups);
  }
  const float gate = SumOverBlock<kVector>(gates);
  const float up = SumOverBlock<kVector>(ups);
  const int output = blockIdx.y * kColumns + threadIdx.x;
  if (threadIdx.x < kColumns && output < p.intermediate) {
    static_cast<T*>(p.activations)[static_cast<int64_t>(pair) * p.intermediate + output] =
        FromFloat<T>(Silu(gate) * up);
  }
}

template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads, kDownBlocks) moe_down_gemv_transposed_kernel(const DownParams p) {
  constexpr int kColumns = kColumnLanes * kVector;
  const int token = blockIdx.x;
  const int column = blockIdx.y * kColumns + threadIdx.x % kColumnLanes * kVector;
  WaitForPrevious();
  const T* activations = static_cast<const T*>(p.activations);
  float sums[kVector] = {};
  for (int slot = 0; slot < p.top_k && column < p.hidden; ++slot) {
    const int64_t pair = static_cast<int64_t>(token) * p.top_k + slot;
    float dots[kVector] = {};
    DotColumns<T, kVector, 4>(activations + pair * p.intermediate, p.down.At<T>(p.indices[pair]) + column,
                              p.stride, p.intermediate, dots);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums[i] = fmaf(p.weights[pair], dots[i], sums[i]);
  }
  const float sum = SumOverBlock<kVector>(sums);
  const int output = blockIdx.y * kColumns + threadIdx.x;
  if (threadIdx.x < kColumns && output < p.hidden) StoreSum(p, token, output, sum);
}

// `outputs`: of a block.
cudaError_t LaunchGemvs(void (*gate_kernel)(GateUpParams), void (*down_kernel)(DownParams),
                        const GateUpParams& gate_up, const DownParams& down, int64_t tokens, int outputs,
                        size_t shared_bytes, cudaStream_t stream) {
  const int64_t gate_blocks = CeilDiv(gate_up.intermediate, outputs);
  const int64_t down_blocks = CeilDiv(down.hidden, outputs);
  if (gate_blocks > kMaxGridY || down_blocks > kMaxGridY) return cudaErrorInvalidValue;
  const dim3 gate_grid(static_cast<unsigned>(tokens * gate_up.top_k), static_cast<unsigned>(gate_blocks));
  const dim3 down_grid(static_cast<unsigned>(tokens), static_cast<unsigned>(down_blocks));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      LaunchDependentKernel(gate_kernel, gate_grid, dim3(kThreads), shared_bytes, stream, gate_up));
  return LaunchDependentKernel(down_kernel, down_grid, dim3(kThreads), shared_bytes, stream, down);
}

template <typename Row>
cudaError_t LaunchGemvs(const GateUpParams& gate_up, const DownParams& down, int64_t tokens,
                        cudaStream_t stream) {
  return LaunchGemvs(moe_gate_up_gemv_kernel<Row>, moe_down_gemv_kernel<Row>, gate_up, down, tokens, kWarps,
                     0, stream);
}

template <typename T, int kVector>
cudaError_t LaunchTransposedGemvs(const GateUpParams& gate_up, const DownParams& down, int64_t tokens,
                                  cudaStream_t stream) {
  return LaunchGemvs(moe_gate_up_gemv_transposed_kernel<T, kVector>,
                     moe_down_gemv_transposed_kernel<T, kVector>, gate_up, down, tokens,
                     kColumnLanes * kVector, kThreads * kVector * sizeof(float), stream);
}

}  // namespace

bool BatchedMmRounds(const ExpertTable& experts, int top_k) { return PlainGemvsTake(experts, top_k); }

cudaError_t LaunchMoeBatchedMm(const MoeExpertsArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckMoeArgs(ExpertsImplementation::kBatchedMm, args));
  if (args.tokens == 0) return cudaSuccess;
  const ExpertTable& experts = args.experts;
  void* activations =
      CarveMoeWorkspace(ExpertsImplementation::kBatchedMm, experts, args.tokens, args.top_k, args.workspace)
          .activations;
  const bool vectors = AllowsVectors(args);
  const GateUpParams gate_up = {
      args.x,      args.indices,        ToKernel(experts.gate), ToKernel(experts.up),
      activations, experts.gate_stride, experts.hidden,         experts.intermediate,
      args.top_k,  experts.num_experts};
  const DownParams down = {activations, args.indices,        args.weights,   ToKernel(experts.down),
                           args.y,      experts.down_stride, experts.hidden, experts.intermediate,
                           args.top_k,  args.y_dtype,        args.accumulate};
  if (vectors && PlainGemvsTake(experts, args.top_k)) return LaunchPlainGemvs(gate_up, down, args, stream);
  return DispatchType(experts.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kVector = kVectorOf<T>;
    if (experts.coded) {
      bool fits = false;
      SWITCHYARD_RETURN_IF_CUDA_ERROR(FitsCodedTiles(args, &fits));
      return fits ? LaunchCodedTiles(gate_up, down, experts.dtype, args.tokens, stream)
                  : LaunchGemvs<CodedRow<T>>(gate_up, down, args.tokens, stream);
    }
    if (experts.transposed) {
      return vectors ? LaunchTransposedGemvs<T, kVector>(gate_up, down, args.tokens, stream)
                     : LaunchTransposedGemvs<T, 1>(gate_up, down, args.tokens, stream);
    }
    return LaunchGemvs<PlainRow<T>>(gate_up, down, args.tokens, stream);
  });
}

}  // namespace switchyard::cuda
