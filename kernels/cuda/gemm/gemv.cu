// LaunchGemv: a warp, or several with a share of k each, multiplies rows of weights with the rows of x, which
// every block keeps in shared memory. One wave of blocks shares the outputs of all weights evenly. Weights
// depend on nothing that came before: the first are under way before the kernel that makes x has ended.
#include "../common/launch.h"
#include "../common/staged_vectors.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int64_t kMostStagedBytes = 96 * 1024;

// Packs a lane has in flight, blocks on a multiprocessor, and outputs of a warp at once, which share what is
// read of x: more where there are more rows.
constexpr int kInFlight = 8;
template <int kRows>
constexpr int kResidentBlocks = kRows == 1 ? 3 : 2;
template <int kRows>
constexpr int kOutputs = kRows == 1 ? 1 : 2;

// One output of one weight.
template <typename T>
struct OutputRow {
  const T* w;
  float bias;
  float* out;
  int64_t n;  // from row to row of out

  // `index` counts over the outputs of all weights, and is one of theirs.
  __device__ OutputRow(const GemvArgs& p, int64_t index) {
    int i = 0;
    while (index >= p.weights[i].n) index -= p.weights[i++].n;
    const GemvWeight& weight = p.weights[i];
    w = static_cast<const T*>(weight.w) + index * weight.w_stride;
    bias = weight.bias == nullptr ? 0.0f : ToFloat(static_cast<const T*>(weight.bias)[index]);
    out = weight.out + index;
    n = weight.n;
  }
};

// `split` warps, of 1 to kWarps, share an output's k; `outputs` counts those of all weights.
template <typename T, int kRows>
__global__ void __launch_bounds__(kThreads, kResidentBlocks<kRows>)
    gemv_kernel(const __grid_constant__ GemvArgs p, int outputs, int split) {
  constexpr int kVector = kVectorOf<T>;
  constexpr int kColumns = kOutputs<kRows>;
  constexpr int kUnroll = kInFlight / kColumns;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int group = warp / split;
  const int groups = kWarps / split;
  const int k = static_cast<int>(p.k);
  const int packs = k / kVector;
  const int pitch = PaddedPacks(packs) * kVector;  // from row to row of x
  // This warp's part of k.
  const int part = static_cast<int>(CeilDiv(CeilDiv(packs, kWarpSize), split)) * kWarpSize;
  const int first = warp % split * part;
  const int last = first + part < packs ? first + part : packs;
  // This block's outputs, kColumns in a unit.
  const int64_t units = CeilDiv(outputs, kColumns);
  const int begin = static_cast<int>(units * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(units * (blockIdx.x + 1) / gridDim.x);

  float* staged = reinterpret_cast<float*>(SharedMemory());
  float* partial = staged + kRows * pitch;  // [kWarps, kRows, kColumns]

  // The last output stands in for those past the end.
  const auto output = [&](int unit, int column) {
    const int index = unit * kColumns + column;
    return OutputRow<T>(p, index < outputs ? index : outputs - 1);
  };
  const T* rows[kColumns];
  float biases[kColumns];
  const auto begin_unit = [&](int unit) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const OutputRow<T> row = output(unit < end ? unit : begin, c);
      rows[c] = row.w;
      biases[c] = row.bias;
    }
  };
  uint4 weights[kUnroll][kColumns];
  const auto load = [&](int from, bool valid) {
    const int64_t at = int64_t{from + lane} * kVector;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const bool inside = valid && from + lane + u * kWarpSize < last;
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        weights[u][c] = LoadOnce16If(inside, rows[c] + at + u * kWarpSize * kVector);
    }
  };

  begin_unit(begin + group);
  load(first, begin + group < end);
  WaitForPrevious();
  StageRounded<T, kThreads>(p.x, static_cast<int>(p.m) * k / 4, [&](int four, const Pack<float, 4>& values) {
    const int row = kRows == 1 ? 0 : four / (k / 4);
    StagedVector<T>(staged + row * pitch, packs).Store(four - row * (k / 4), values);
  });
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    StagedVector<T>(staged + r * pitch, packs).template ClearFrom<kThreads>(r < p.m ? packs : 0);
  __syncthreads();

  for (int base = begin; base < end;
       base += groups) {  // the same for all warps: they may wait for each other
    const int unit = base + group;
    float sums[kRows][kColumns] = {};
    float bias[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) bias[c] = biases[c];
    for (int from = first; from < last; from += kUnroll * kWarpSize) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (from + u * kWarpSize >= last) continue;
        // Behind the end there are zeros.
        const int at = from + u * kWarpSize + lane;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            sums[r][c] = StagedVector<T>(staged + r * pitch, packs).AddDot(at, weights[u][c], sums[r][c]);
          }
        }
      }
      if (from + kUnroll * kWarpSize < last) load(from + kUnroll * kWarpSize, unit < end);
    }
    // The next unit's are under way while this one's are added up.
    begin_unit(unit + groups);
    load(first, unit + groups < end);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sums[r][c] = WarpSum(sums[r][c]);
    }
    if (split > 1) {
      __syncthreads();  // what is there may still be read
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          if (lane == 0) partial[(warp * kRows + r) * kColumns + c] = sums[r][c];
        }
      }
      __syncthreads();
      if (warp % split != 0) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          for (int w = 1; w < split; ++w) sums[r][c] += partial[((warp + w) * kRows + r) * kColumns + c];
        }
      }
    }
    if (unit >= end) continue;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (lane != c || unit * kColumns + c >= outputs) continue;
      const OutputRow<T> row = output(unit, c);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r < p.m) row.out[r * row.n] = sums[r][c] + bias[c];
      }
    }
  }
}

int64_t CountOutputs(const GemvArgs& args) {
  int64_t outputs = 0;
  for (int i = 0; i < args.count; ++i) outputs += args.weights[i].n;
  return outputs;
}

template <typename T>
size_t SharedBytes(int64_t rows, int64_t columns, int64_t k) {
  const int64_t pitch = PaddedPacks(static_cast<int>(k / kVectorOf<T>)) * kVectorOf<T>;
  return static_cast<size_t>(rows * pitch + kWarps * rows * columns) * sizeof(float);
}

// Rows a kernel is made for.
int64_t KernelRows(int64_t m) { return m <= 2 ? m : kMostRowsOfGemv; }

template <typename T, int kRows>
cudaError_t LaunchFor(const GemvArgs& args, cudaStream_t stream) {
  int multiprocessors = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CountMultiprocessors(&multiprocessors));
  const int64_t outputs = CountOutputs(args);
  const int64_t units = CeilDiv(outputs, kOutputs<kRows>);
  const int64_t most_blocks = int64_t{multiprocessors} * kResidentBlocks<kRows>;
  // Warps without an output of their own take a part of another's k.
  const int64_t steps = CeilDiv(args.k, kWarpSize * kVectorOf<T>);
  int split = 1;
  while (2 * split <= kWarps && 2 * split <= steps && units * 2 * split <= most_blocks * kWarps) split *= 2;
  const int64_t wanted = CeilDiv(units * split, kWarps);
  const int64_t blocks = wanted < most_blocks ? wanted : most_blocks;
  return LaunchDependentKernel(gemv_kernel<T, kRows>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
                               SharedBytes<T>(kRows, kOutputs<kRows>, args.k), stream, args,
                               static_cast<int>(outputs), split);
}

}  // namespace

bool GemvTakes(const GemvArgs& args) {
  if (!IsSupported(args.dtype) || args.m < 1 || args.m > kMostRowsOfGemv || args.count < 1 ||
      args.count > kMostGemvWeights || args.k < 1 || !IsAligned16(args.x)) {
    return false;
  }
  const int64_t vector = 16 / static_cast<int64_t>(ElementSize(args.dtype));
  const int64_t rows = KernelRows(args.m);
  if (args.k % vector != 0 || rows * args.k * static_cast<int64_t>(sizeof(float)) > kMostStagedBytes)
    return false;
  for (int i = 0; i < args.count; ++i) {
    const GemvWeight& weight = args.weights[i];
    if (weight.n < 1 || weight.n > INT32_MAX / kMostGemvWeights || weight.w_stride < args.k ||
        weight.w_stride % vector != 0 || !IsAligned16(weight.w)) {
      return false;
    }
  }
  return true;
}

cudaError_t LaunchGemv(const GemvArgs& args, cudaStream_t stream) {
  if (!GemvTakes(args)) return cudaErrorInvalidValue;
  return DispatchType(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    switch (KernelRows(args.m)) {
      case 1:
        return LaunchFor<T, 1>(args, stream);
      case 2:
        return LaunchFor<T, 2>(args, stream);
      default:
        return LaunchFor<T, kMostRowsOfGemv>(args, stream);
    }
  });
}

}  // namespace switchyard::cuda
