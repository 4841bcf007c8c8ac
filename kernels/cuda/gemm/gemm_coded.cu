// LaunchLinear for a quantized matrix, beside either GEMM library: few rows by reading its codes once for
// several of them, more on tensor cores, a tile of codes expanded at a time.
#include "../common/coded_mma.cuh"
#include "../common/launch.h"
#include "../common/tile_product.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kResidentBlocks = 2;  // with a number given, loads in flight get the registers they need
constexpr int kRowsAtOnce = 4;
constexpr int64_t kFewRows = 16;  // above this, tiles read the codes fewer times

__device__ void StoreOutput(const LinearArgs& p, int64_t row, int64_t column, float value) {
  if (p.bias != nullptr) value += LoadAs(p.bias, p.dtype, column);
  StoreAs(p.out, p.out_dtype, row * p.out_stride + column, value);
}

// One warp for an output column of kRows rows.
template <typename T, int kRows>
__global__ void __launch_bounds__(kThreads, kResidentBlocks) linear_coded_gemv_kernel(const LinearArgs p) {
  constexpr int kUnroll = 4;
  constexpr int kStep = kWarpSize * kCodeChunk;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  const int64_t row0 = static_cast<int64_t>(blockIdx.y) * kRows;
  WaitForPrevious();
  if (column >= p.n) return;
  const CodedRows codes(p.w);
  const T* x = static_cast<const T*>(p.a);
  const int k = static_cast<int>(p.k);
  float sums[kRows] = {};
  for (int base = static_cast<int>(threadIdx.x) % kWarpSize * kCodeChunk; base < k; base += kStep * kUnroll) {
    CodeChunk chunks[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      // Past the end the first codes are loaded once more and multiplied with zeros.
      const int at = base + u * kStep;
      chunks[u] = codes.Load(column, at < k ? at : base);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = base + u * kStep;
      float values[kCodeChunk];
      codes.Values(chunks[u], values);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const bool inside = at < k && row0 + r < p.m;
        const InputChunk<T> inputs = LoadInputChunk<T>(inside, x + (inside ? (row0 + r) * p.k + at : 0));
        sums[r] = codes.AddDot(chunks[u], values, inputs, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = WarpSum(sums[r]);
    if (threadIdx.x % kWarpSize == 0 && row0 + r < p.m) StoreOutput(p, row0 + r, column, sum);
  }
}

// Shared memory of a block of the next kernel: its rings and activations.
size_t FewRowsBytes(int rows, int64_t k) {
  return size_t{kWarps} * kRingBytes + StagedInputs::Bytes(rows, static_cast<int>(k));
}

// One block for 16 output columns of kRows rows, on tensor cores; its warps share out k.
template <typename T, int kRows>
__global__ void __launch_bounds__(kThreads, kRows == 1 ? 3 : 2) linear_coded_rows_kernel(const LinearArgs p) {
  const int column = static_cast<int>(blockIdx.x) * kCodedRows;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kRows;
  const int present = p.m - row < kRows ? static_cast<int>(p.m - row) : kRows;
  const int warp = threadIdx.x / kWarpSize;
  const int k = static_cast<int>(p.k);
  const int steps = CodedSteps(k);
  unsigned char* shared = SharedMemory();
  const CodedTile tile(p.w, column, static_cast<int>(p.n), k, steps * warp / kWarps,
                       steps * (warp + 1) / kWarps, shared + warp * kRingBytes);
  tile.Start();
  WaitForPrevious();
  const StagedInputs inputs(shared + kWarps * kRingBytes, kRows, k);
  const T* x = static_cast<const T*>(p.a) + row * k;
  inputs.Fill(x, kRows, present, k);
  __syncthreads();
  float sums[kRows][2];
  tile.Multiply<T, kRows>(inputs, 0, x, present, sums);
  // Each warp's ring is its own and no longer needed.
  if (threadIdx.x % 4 == 0) {
    float* kept = reinterpret_cast<float*>(shared + warp * kRingBytes) + CodedTile::Group();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      kept[r * kCodedRows] = sums[r][0];
      kept[r * kCodedRows + 8] = sums[r][1];
    }
  }
  __syncthreads();
  const int r = threadIdx.x / kCodedRows;
  const int64_t output = column + static_cast<int>(threadIdx.x) % kCodedRows;
  if (r >= present || output >= p.n) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i)
    sum += reinterpret_cast<const float*>(shared + i * kRingBytes)[threadIdx.x];
  StoreOutput(p, row + r, output, sum);
}

// One block for a tile of rows and outputs; those are of type Out.
template <typename T, typename Out>
__global__ void __launch_bounds__(kBlockThreads, 1)
    linear_coded_tile_kernel(const LinearArgs p, const GroupedMmParams tile_params, int stages) {
  const int row0 = static_cast<int>(blockIdx.y) * kMoeTileRows;
  const int left = static_cast<int>(p.m) - row0;
  const MoeTile tile = {0, row0, left < kMoeTileRows ? left : kMoeTileRows, 0};
  const BlockTile block = {tile, static_cast<int>(blockIdx.x) * kTileColumns, p.w, nullptr};
  T* shared = reinterpret_cast<T*>(SharedMemory());
  TileLoader<T, false, WeightLayout::kCodes> loader(tile_params, block, shared + stages * kStageElements);
  WarpTile<T, false, WeightLayout::kCodes> warp(tile.rows);
  MultiplyTile(tile_params.k, stages, shared, loader, warp);
  Out* out = static_cast<Out*>(p.out);
  const T* bias = static_cast<const T*>(p.bias);
  const auto store = [&](int row, int64_t column, float sum) {
    if (row >= tile.rows || column >= p.n) return;
    if (bias != nullptr) sum += ToFloat(bias[column]);
    out[(row0 + row) * p.out_stride + column] = FromFloat<Out>(sum);
  };
  warp.ForEachPair([&](int row, int column, float first, float second) {
    store(row, block.column + column, first);
    store(row, block.column + column + 1, second);
  });
}

template <typename T, int kRows>
cudaError_t LaunchGemv(const LinearArgs& args, cudaStream_t stream) {
  const int64_t blocks = CeilDiv(args.m, kRows);
  if (blocks > kMaxGridY) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.n, kWarps)), static_cast<unsigned>(blocks));
  return LaunchDependentKernel(linear_coded_gemv_kernel<T, kRows>, grid, dim3(kThreads), 0, stream, args);
}

// The same on tensor cores; with too many k's for the shared memory, `launched` stays false.
template <typename T, int kRows>
cudaError_t LaunchFewRows(const LinearArgs& args, cudaStream_t stream, bool* launched) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(FitsSharedMemory(FewRowsBytes(kRows, args.k), launched));
  if (!*launched) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.n, kCodedRows)),
                  static_cast<unsigned>(CeilDiv(args.m, kRows)));
  return LaunchDependentKernel(linear_coded_rows_kernel<T, kRows>, grid, dim3(kThreads),
                               FewRowsBytes(kRows, args.k), stream, args);
}

template <typename T>
cudaError_t LaunchTiles(const LinearArgs& args, cudaStream_t stream) {
  const int64_t tiles = CeilDiv(args.m, kMoeTileRows);
  if (tiles > kMaxGridY) return cudaErrorInvalidValue;
  int stages = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(ChooseStages(&stages));
  GroupedMmParams params = {};
  params.a = args.a;
  params.coded = true;
  params.n = static_cast<int>(args.n);
  params.k = static_cast<int>(args.k);
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.n, kTileColumns)), static_cast<unsigned>(tiles));
  const auto kernel =
      args.out_dtype == DType::kFloat32 ? linear_coded_tile_kernel<T, float> : linear_coded_tile_kernel<T, T>;
  return LaunchKernel(kernel, grid, dim3(kBlockThreads), TileSharedBytes(WeightLayout::kCodes, stages),
                      stream, args, params, stages);
}

}  // namespace

cudaError_t LaunchCodedLinear(const LinearArgs& args, cudaStream_t stream) {
  if (args.transposed || args.k % kCodeChunk != 0 || args.a_stride != args.k || !IsAligned16(args.a) ||
      args.n > INT32_MAX || args.k > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  if (args.m == 0) return cudaSuccess;
  return DispatchType(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    if constexpr (!std::is_same_v<T, float>) {
      if (args.m > kFewRows) return LaunchTiles<T>(args, stream);
      bool launched = false;
      if (args.k % kCodedWidth == 0) {
        SWITCHYARD_RETURN_IF_CUDA_ERROR(args.m == 1
                                            ? (LaunchFewRows<T, 1>(args, stream, &launched))
                                            : (LaunchFewRows<T, kRowsAtOnce>(args, stream, &launched)));
      }
      if (launched) return cudaSuccess;
    }
    return args.m == 1 ? LaunchGemv<T, 1>(args, stream) : LaunchGemv<T, kRowsAtOnce>(args, stream);
  });
}

}  // namespace switchyard::cuda
