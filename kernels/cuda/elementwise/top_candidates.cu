// The k largest logits: blocks choose among a segment of a row each, then blocks choose among the chosen,
// until one list a row is left. Logits and ids become integers in the wanted order, all different, so that
// every way of sorting gives the same result.
#include <algorithm>

#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "../kernels.h"

namespace switchyard::cuda {
namespace {

using Key = unsigned long long;

constexpr int kMaxCandidates = 1024;
constexpr int kThreads = 512;
constexpr int kSegment = 2048;   // logits a block reads; more when half of them would be kept
constexpr int kMostKeys = 8192;  // of a block
constexpr Key kNoKey = 0;        // less than any logit's

// Greater for greater logits, and among equals for lower ids. Signed zeros are equal.
__device__ Key KeyOf(float logit, int64_t id) {
  const float value = logit == logit ? logit + 0.0f : MinusInfinity();
  const uint32_t bits = static_cast<uint32_t>(__float_as_int(value));
  const uint32_t order = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(order) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
__device__ float LogitOf(Key key) {
  const uint32_t order = static_cast<uint32_t>(key >> 32);
  return __int_as_float(static_cast<int>(order >> 31 != 0 ? order & 0x7fffffffu : ~order));
}
__device__ int32_t IdOf(Key key) { return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key)); }

// One step of a bitonic network over `count` keys: partners are 2^log_stride apart, and the greater goes
// first where bit `ascending` of the first position is clear.
__device__ void ExchangeKeys(Key* keys, int count, int log_stride, int ascending) {
  const int stride = 1 << log_stride;
  for (int i = threadIdx.x; i < count / 2; i += kThreads) {
    const int first = (i >> log_stride << (log_stride + 1)) | (i & (stride - 1));
    const Key a = keys[first];
    const Key b = keys[first + stride];
    if ((a < b) == ((first & ascending) == 0)) {
      keys[first] = b;
      keys[first + stride] = a;
    }
  }
  __syncthreads();
}

// Sorts every run of 2^log_run keys, greatest first.
__device__ void SortRuns(Key* keys, int count, int log_run) {
  for (int log_size = 1; log_size <= log_run; ++log_size) {
    const int ascending = log_size < log_run ? 1 << log_size : 0;
    for (int log_stride = log_size - 1; log_stride >= 0; --log_stride) {
      ExchangeKeys(keys, count, log_stride, ascending);
    }
  }
}

// Sorted runs become one that holds the greatest of all: runs of the first half take in those of the second.
__device__ void MergeRuns(Key* keys, int count, int log_run) {
  const int run = 1 << log_run;
  for (int half = count / 2; half >= run; half /= 2) {
    for (int i = threadIdx.x; i < half; i += kThreads) {
      const Key other = keys[half + (i ^ (run - 1))];  // the other run from its end
      if (keys[i] < other) keys[i] = other;
    }
    __syncthreads();
    for (int log_stride = log_run - 1; log_stride >= 0; --log_stride) ExchangeKeys(keys, half, log_stride, 0);
  }
}

struct TopParams {
  const float* logits;  // [rows, vocab], or null: lists come in
  int64_t vocab;
  const Key* lists_in;  // [rows, lists, run], sorted
  Key* lists_out;       // [rows, blocks, run], or null: values and ids go out
  float* values;        // [rows, k]
  int32_t* ids;
  int lists, blocks, keys, log_run, k;  // keys: of a block, a power of two
};

__device__ void LoadKeys(const TopParams& p, Key* keys) {
  const int64_t row = blockIdx.y;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * p.keys;
  const int64_t count = p.logits != nullptr ? p.vocab : static_cast<int64_t>(p.lists) << p.log_run;
  for (int i = threadIdx.x; i < p.keys; i += kThreads) {
    const int64_t at = first + i;
    if (at >= count) {
      keys[i] = kNoKey;
    } else {
      keys[i] = p.logits != nullptr ? KeyOf(p.logits[row * count + at], at) : p.lists_in[row * count + at];
    }
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) top_candidates_kernel(const __grid_constant__ TopParams p) {
  Key* keys = reinterpret_cast<Key*>(SharedMemory());
  WaitForPrevious();
  LoadKeys(p, keys);
  if (p.logits != nullptr) SortRuns(keys, p.keys, p.log_run);
  MergeRuns(keys, p.keys, p.log_run);
  const int64_t row = blockIdx.y;
  if (p.lists_out != nullptr) {
    Key* out = p.lists_out + ((row * p.blocks + blockIdx.x) << p.log_run);
    for (int i = threadIdx.x; i < 1 << p.log_run; i += kThreads) out[i] = keys[i];
    return;
  }
  for (int i = threadIdx.x; i < p.k; i += kThreads) {
    p.values[row * p.k + i] = LogitOf(keys[i]);
    p.ids[row * p.k + i] = IdOf(keys[i]);
  }
}

int LogRun(int k) {
  int log_run = 0;
  while (1 << log_run < k) ++log_run;
  return log_run;
}

// Logits that a block reads.
int SegmentKeys(int log_run) { return std::max(kSegment, 4 << log_run); }

int64_t FirstBlocks(int64_t vocab, int log_run) { return CeilDiv(vocab, SegmentKeys(log_run)); }
int64_t NextBlocks(int64_t lists, int log_run) { return CeilDiv(lists, kMostKeys >> log_run); }

// The keys of a block that takes in at most `lists` lists.
int MergeKeys(int64_t lists, int log_run) {
  int keys = 1 << log_run;
  while (keys < kMostKeys && keys < lists << log_run) keys *= 2;
  return keys;
}

}  // namespace

// Lists of the first stage, then of the second, which the later stages take turns with.
size_t TopCandidatesWorkspaceBytes(int64_t rows, int64_t vocab, int k) {
  const int log_run = LogRun(std::min(k, kMaxCandidates));
  const int64_t first = FirstBlocks(vocab, log_run);
  const int64_t lists = rows * (first + NextBlocks(first, log_run));
  return (static_cast<size_t>(lists) * sizeof(Key)) << log_run;
}

cudaError_t LaunchTopCandidates(const TopCandidatesArgs& args, cudaStream_t stream) {
  if (args.rows < 0 || args.rows > kMaxGridY || args.vocab <= 0 || args.vocab > INT32_MAX || args.k < 1 ||
      args.k > kMaxCandidates || args.k > args.vocab || args.workspace == nullptr ||
      args.workspace_bytes < TopCandidatesWorkspaceBytes(args.rows, args.vocab, args.k)) {
    return cudaErrorInvalidValue;
  }
  if (args.rows == 0) return cudaSuccess;
  const int log_run = LogRun(args.k);
  int64_t blocks = FirstBlocks(args.vocab, log_run);
  Key* lists = static_cast<Key*>(args.workspace);
  Key* other = lists + (args.rows * blocks << log_run);
  TopParams p = {args.logits,          args.vocab, nullptr, blocks > 1 ? lists : nullptr,
                 args.values,          args.ids,   0,       static_cast<int>(blocks),
                 SegmentKeys(log_run), log_run,    args.k};
  const auto launch = [&] {
    return LaunchDependentKernel(top_candidates_kernel,
                                 dim3(static_cast<unsigned>(p.blocks), static_cast<unsigned>(args.rows)),
                                 dim3(kThreads), static_cast<size_t>(p.keys) * sizeof(Key), stream, p);
  };
  SWITCHYARD_RETURN_IF_CUDA_ERROR(launch());
  while (p.blocks > 1) {
    blocks = NextBlocks(p.blocks, log_run);
    p.logits = nullptr;
    p.lists_in = lists;
    p.lists_out = blocks > 1 ? other : nullptr;
    p.lists = p.blocks;
    p.keys = MergeKeys(p.lists, log_run);
    p.blocks = static_cast<int>(blocks);
    SWITCHYARD_RETURN_IF_CUDA_ERROR(launch());
    std::swap(lists, other);
  }
  return cudaSuccess;
}

}  // namespace switchyard::cuda
