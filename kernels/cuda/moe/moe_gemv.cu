// batched_mm for plain weights whose rows begin on 16 bytes. As in moe_batched_mm.cu, the first launch takes
// pairs and the second tokens, and blocks that run together read the same rows of an expert several tokens
// chose. What is multiplied with lies in shared memory; as many blocks as fit at once share the rows evenly,
// and a warp has its next row under way while it adds up the last. A block of the second launch has its first
// row under way while blocks of the first are still at work.
#include "../common/staged_vectors.cuh"
#include "moe_batched.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int64_t kMostStagedBytes = 96 * 1024;
// Blocks on a multiprocessor, and packs a lane has in flight.
constexpr int kGateUpBlocks = 3;
constexpr int kGateUpInFlight = 4;  // of each of the two
constexpr int kDownBlocks = 2;
constexpr int kDownInFlight = 12;
// With more tokens there are several times the blocks that run at once, and an early start costs up to a
// tenth.
constexpr int64_t kMostEarlyTokens = 2;

// The rows [begin, end) of a block on the grid's second axis; its warps take them in turn.
struct RowRange {
  int begin, end;
  __device__ explicit RowRange(int rows)
      : begin(static_cast<int>(int64_t{rows} * blockIdx.y / gridDim.y)),
        end(static_cast<int>(int64_t{rows} * (blockIdx.y + 1) / gridDim.y)) {}
};

// One warp per output of one pair; gate and up share what is read of x.
template <typename T>
__global__ void __launch_bounds__(kThreads, kGateUpBlocks)
    moe_plain_gate_up_kernel(const GateUpParams p, bool float32_inputs) {
  constexpr int kVector = kVectorOf<T>;
  constexpr int kUnroll = kGateUpInFlight;
  constexpr int kStep = kUnroll * kWarpSize;
  const int lane = threadIdx.x % kWarpSize;
  const int pair = blockIdx.x;
  const RowRange rows(p.intermediate);
  const int packs = p.hidden / kVector;
  PrefetchPointers(p);
  WaitForPrevious();
  const int expert = p.indices[pair];
  const T* gate = p.gate.At<T>(expert);
  const T* up = p.up.At<T>(expert);

  uint4 gates[kUnroll], ups[kUnroll];
  const auto load = [&](int row, int from) {
    const int64_t first = row * p.stride + int64_t{from + lane} * kVector;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const bool valid = row < rows.end && from + u * kWarpSize + lane < packs;
      gates[u] = LoadOnce16If(valid, gate + first + u * kWarpSize * kVector);
      ups[u] = LoadOnce16If(valid, up + first + u * kWarpSize * kVector);
    }
  };
  int row = rows.begin + static_cast<int>(threadIdx.x) / kWarpSize;
  load(row, 0);

  const StagedVector<T> staged(reinterpret_cast<float*>(SharedMemory()), packs);
  const int64_t token = static_cast<int64_t>(pair / p.top_k) * p.hidden;
  const auto store = [&](int four, const Pack<float, 4>& values) { staged.Store(four, values); };
  if (float32_inputs) {
    StageRounded<T, kThreads>(static_cast<const float*>(p.x) + token, p.hidden / 4, store);
  } else {
    StageRounded<T, kThreads>(static_cast<const T*>(p.x) + token, p.hidden / 4, store);
  }
  staged.template ClearFrom<kThreads>(packs);
  __syncthreads();

  for (; row < rows.end; row += kWarps) {
    float gate_sum = 0.0f;
    float up_sum = 0.0f;
    for (int from = 0; from < packs; from += kStep) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (from + u * kWarpSize >= packs) continue;
        // Behind the end there are zeros.
        gate_sum = staged.AddDot(from + u * kWarpSize + lane, gates[u], gate_sum);
        up_sum = staged.AddDot(from + u * kWarpSize + lane, ups[u], up_sum);
      }
      const bool done = from + kStep >= packs;
      load(done ? row + kWarps : row, done ? 0 : from + kStep);
    }
    gate_sum = WarpSum(gate_sum);
    up_sum = WarpSum(up_sum);
    if (lane == 0) {
      static_cast<T*>(p.activations)[static_cast<int64_t>(pair) * p.intermediate + row] =
          FromFloat<T>(Silu(gate_sum) * up_sum);
    }
  }
}

// Slots of a token with those that fill 16 bytes, of whatever they are.
SWITCHYARD_HOST_DEVICE constexpr int PaddedSlots(int top_k) { return (top_k + 3) / 4 * 4; }

// One warp per output of one token. The token's activations, times the weights of its experts, are one vector
// in shared memory, and the rows of its experts one row: its packs are counted through all of them.
// `reciprocal`: of the packs in a row, times 2^32 and rounded up.
template <typename T>
__global__ void __launch_bounds__(kThreads, kDownBlocks)
    moe_plain_down_kernel(const DownParams p, uint32_t reciprocal) {
  constexpr int kVector = kVectorOf<T>;
  constexpr int kUnroll = kDownInFlight;
  constexpr int kStep = kUnroll * kWarpSize;
  const int lane = threadIdx.x % kWarpSize;
  const int token = blockIdx.x;
  const int64_t first_pair = static_cast<int64_t>(token) * p.top_k;
  const RowRange rows(p.hidden);
  const int packs = p.intermediate / kVector;  // of an expert
  const int all_packs = packs * p.top_k;

  const T** matrices = reinterpret_cast<const T**>(SharedMemory());  // [top_k], rounded up to 16 bytes
  float* weights = reinterpret_cast<float*>(matrices + PaddedSlots(p.top_k));  // the same
  const StagedVector<T> staged(weights + PaddedSlots(p.top_k), all_packs);
  const auto slot_of = [&](int pack) {
    return static_cast<int>(uint64_t{static_cast<uint32_t>(pack)} * reciprocal >> 32);
  };
  uint4 packed[kUnroll];
  const auto load = [&](int row, int from) {
    const int64_t begin = row * p.stride;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = from + u * kWarpSize + lane;
      const bool valid = row < rows.end && at < all_packs;
      const int slot = valid ? slot_of(at) : 0;
      packed[u] = LoadOnce16If(valid, matrices[slot] + begin + int64_t{at - slot * packs} * kVector);
    }
  };

  // Routing was there before the kernel that makes the activations began.
  if (const int slot = static_cast<int>(threadIdx.x); slot < p.top_k) {
    matrices[slot] = p.down.At<T>(LoadFresh(p.indices + first_pair + slot));
    weights[slot] = LoadFresh(p.weights + first_pair + slot);
  }
  __syncthreads();
  int row = rows.begin + static_cast<int>(threadIdx.x) / kWarpSize;
  load(row, 0);
  WaitForPrevious();
  StageRounded<T, kThreads>(static_cast<const T*>(p.activations) + first_pair * p.intermediate,
                            all_packs * (kVector / 4), [&](int four, Pack<float, 4> values) {
                              const float weight = weights[slot_of(four / (kVector / 4))];
#pragma unroll
                              for (int i = 0; i < 4; ++i) values.values[i] *= weight;
                              staged.Store(four, values);
                            });
  staged.template ClearFrom<kThreads>(all_packs);
  __syncthreads();

  for (; row < rows.end; row += kWarps) {
    float sum = 0.0f;
    for (int from = 0; from < all_packs; from += kStep) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (from + u * kWarpSize >= all_packs) continue;
        // Behind the end there are zeros.
        sum = staged.AddDot(from + u * kWarpSize + lane, packed[u], sum);
      }
      const bool done = from + kStep >= all_packs;
      load(done ? row + kWarps : row, done ? 0 : from + kStep);
    }
    sum = WarpSum(sum);
    if (lane == 0) StoreSum(p, token, row, sum);
  }
}

// Blocks that share `rows` beside each of `columns`: as many as run at once, with one or two rows a warp.
unsigned RowBlocks(int64_t rows, int64_t columns, int64_t resident) {
  const int64_t most = CeilDiv(rows, kWarps);
  const int64_t fewest = CeilDiv(rows, 2 * kWarps);
  const int64_t even = resident / columns;
  return static_cast<unsigned>(even < fewest ? fewest : even < most ? even : most);
}

int64_t VectorOf(DType dtype) { return 16 / static_cast<int64_t>(ElementSize(dtype)); }
int64_t Packs(int elements, DType dtype) { return elements / VectorOf(dtype); }

size_t StagedBytes(int64_t packs, DType dtype) {
  return static_cast<size_t>(PaddedPacks(static_cast<int>(packs)) * VectorOf(dtype)) * sizeof(float);
}

size_t GateUpSharedBytes(const ExpertTable& experts) {
  return StagedBytes(Packs(experts.hidden, experts.dtype), experts.dtype);
}

size_t DownSharedBytes(const ExpertTable& experts, int top_k) {
  return static_cast<size_t>(PaddedSlots(top_k)) * (sizeof(void*) + sizeof(float)) +
         StagedBytes(top_k * Packs(experts.intermediate, experts.dtype), experts.dtype);
}

}  // namespace

bool PlainGemvsTake(const ExpertTable& experts, int top_k) {
  return !experts.coded && !experts.transposed && RowsAllowVectors(experts) &&
         Packs(experts.intermediate, experts.dtype) > 1 && top_k <= kThreads &&
         static_cast<int64_t>(GateUpSharedBytes(experts)) <= kMostStagedBytes &&
         static_cast<int64_t>(DownSharedBytes(experts, top_k)) <= kMostStagedBytes &&
         CeilDiv(experts.hidden, kWarps) <= kMaxGridY && CeilDiv(experts.intermediate, kWarps) <= kMaxGridY;
}

cudaError_t LaunchPlainGemvs(const GateUpParams& gate_up, const DownParams& down, const MoeExpertsArgs& args,
                             cudaStream_t stream) {
  const ExpertTable& experts = args.experts;
  int multiprocessors = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CountMultiprocessors(&multiprocessors));
  const auto reciprocal =
      static_cast<uint32_t>((uint64_t{1} << 32) / Packs(experts.intermediate, experts.dtype) + 1);
  const int64_t pairs = args.tokens * args.top_k;
  const dim3 gate_grid(static_cast<unsigned>(pairs),
                       RowBlocks(experts.intermediate, pairs, int64_t{multiprocessors} * kGateUpBlocks));
  const dim3 down_grid(static_cast<unsigned>(args.tokens),
                       RowBlocks(experts.hidden, args.tokens, int64_t{multiprocessors} * kDownBlocks));
  return DispatchType(experts.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const auto launch = [&](auto kernel, dim3 grid, size_t bytes, auto... arguments) {
      return args.tokens <= kMostEarlyTokens
                 ? LaunchDependentKernel(kernel, grid, dim3(kThreads), bytes, stream, arguments...)
                 : LaunchKernel(kernel, grid, dim3(kThreads), bytes, stream, arguments...);
    };
    SWITCHYARD_RETURN_IF_CUDA_ERROR(launch(moe_plain_gate_up_kernel<T>, gate_grid, GateUpSharedBytes(experts),
                                           gate_up, args.float32_inputs));
    return launch(moe_plain_down_kernel<T>, down_grid, DownSharedBytes(experts, args.top_k), down,
                  reciprocal);
  });
}

}  // namespace switchyard::cuda
