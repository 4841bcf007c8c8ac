// The grouped product on tensor cores (sm_80): one block per tile of sorted rows and 256 weight rows,
// operands brought in by asynchronous copies two or three stages deep, eight warps of 64 x 64 results each.
// Rows a tile does not have are skipped in groups of 16.
#include "../common/tile_product.cuh"

namespace switchyard::cuda {
namespace {

template <typename T, bool kGateUp, WeightLayout kLayout>
__global__ void __launch_bounds__(kBlockThreads, 1)
    moe_grouped_mm_kernel(const GroupedMmParams p, int stages) {
  constexpr int kWidth = kGateUp ? kTileColumns / 2 : kTileColumns;
  if (static_cast<int>(blockIdx.y) >= *p.num_tiles) return;
  const MoeTile tile = p.tiles[blockIdx.y];
  const BlockTile block = {tile, static_cast<int>(blockIdx.x) * kWidth, p.b0.At<void>(tile.expert),
                           kGateUp ? p.b1.At<void>(tile.expert) : nullptr};
  T* shared = reinterpret_cast<T*>(SharedMemory());
  TileLoader<T, kGateUp, kLayout> loader(p, block, shared + stages * kStageElements);
  WarpTile<T, kGateUp, kLayout> warp(tile.rows);
  MultiplyTile(p.k, stages, shared, loader, warp);
  constexpr int kPitch = kWidth + kChunk;  // one chunk more, to spread rows over the banks
  warp.Store(shared, kPitch);
  __syncthreads();
  WriteRows<T, kGateUp>(p, block, shared, kPitch);
}

template <typename T, bool kGateUp>
cudaError_t Launch(const GroupedMmParams& params, bool transposed, int max_tiles, cudaStream_t stream) {
  constexpr int kWidth = kGateUp ? kTileColumns / 2 : kTileColumns;
  if (max_tiles > kMaxGridY) return cudaErrorInvalidValue;
  int stages = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(ChooseStages(&stages));
  const dim3 grid(static_cast<unsigned>(CeilDiv(params.n, kWidth)), static_cast<unsigned>(max_tiles));
  const auto launch = [&](auto kernel, WeightLayout layout) {
    return LaunchKernel(kernel, grid, dim3(kBlockThreads), TileSharedBytes(layout, stages), stream, params,
                        stages);
  };
  using enum WeightLayout;
  if (params.coded) return launch(moe_grouped_mm_kernel<T, kGateUp, kCodes>, kCodes);
  return transposed ? launch(moe_grouped_mm_kernel<T, kGateUp, kColumns>, kColumns)
                    : launch(moe_grouped_mm_kernel<T, kGateUp, kRows>, kRows);
}

template <typename T>
cudaError_t Launch(const GroupedMmParams& params, bool gate_up, bool transposed, int max_tiles,
                   cudaStream_t stream) {
  return gate_up ? Launch<T, true>(params, transposed, max_tiles, stream)
                 : Launch<T, false>(params, transposed, max_tiles, stream);
}

}  // namespace

cudaError_t LaunchGroupedMmTensorCore(const GroupedMmParams& params, DType dtype, bool gate_up,
                                      bool transposed, int max_tiles, cudaStream_t stream) {
  switch (dtype) {
    case DType::kBFloat16:
      return Launch<__nv_bfloat16>(params, gate_up, transposed, max_tiles, stream);
    case DType::kFloat16:
      return Launch<__half>(params, gate_up, transposed, max_tiles, stream);
    case DType::kFloat32:
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace switchyard::cuda
