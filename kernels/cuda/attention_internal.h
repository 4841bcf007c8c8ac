// What the attention kernels share: their parameters, which keys a query sees, and how a row's keys are split
// over blocks.
#pragma once
#include "kernels.h"
#include "launch.h"

namespace switchyard::cuda {

constexpr int kMaxHeadDim = 256;
constexpr int kMaxTensorCoreHeadDim = 128;
constexpr int kHeadChunk = 8;   // 16-bit elements in 16 bytes
constexpr int kSplitKeys = 64;  // a split holds a multiple of this many keys
constexpr int kMaxSplits = 128;

// Part of the keys attended to, and the largest score (in powers of two) their exponentials are relative to.
struct SplitStats {
  float largest;
  float total;
};

struct AttentionParams {
  const void* q;                  // [batch, heads, tokens, q_pitch]
  const void* keys;               // [batch, kv_heads, key_rows, key_pitch]
  const void* values;             // like keys
  float* out;                     // [batch, tokens, heads, head_dim]
  const int32_t* last_positions;  // [batch], or null: start holds for every row
  int batch, tokens, heads, kv_heads, head_dim;
  int q_pitch, key_pitch;
  int key_rows;
  int start;  // position of a row's first query
  bool causal;
  int window;
  float scale;              // times log2(e)
  int splits;               // blocks that share a row's keys; 1 but for decoding
  int most_splits;          // what the number of keys in a split is computed with
  float* split_sums;        // [batch * heads, splits, head_dim], or null for one split: results go to out
  SplitStats* split_stats;  // [batch * heads, splits]
};

struct KeyRange {
  int begin, end;
};

SWITCHYARD_HOST_DEVICE constexpr int Min(int a, int b) { return a < b ? a : b; }
SWITCHYARD_HOST_DEVICE constexpr int Max(int a, int b) { return a > b ? a : b; }

// The position of a row's first query; negative when it lies outside the cache.
SWITCHYARD_HOST_DEVICE inline int StartOf(const int32_t* last_positions, int start, int key_rows, int row) {
  if (last_positions == nullptr) return start;
  const int position = last_positions[row];
  return position < key_rows ? position : -1;
}

// The keys that some query at positions first to last sees, of a row that holds `filled`.
SWITCHYARD_HOST_DEVICE inline KeyRange VisibleKeys(const AttentionParams& p, int filled, int first,
                                                   int last) {
  const int end = p.causal ? Min(filled, last + 1) : filled;
  const int begin = p.window > 0 ? Max(0, first - p.window + 1) : 0;
  return {Min(begin, end), end};
}

SWITCHYARD_HOST_DEVICE inline bool IsVisible(const AttentionParams& p, int position, int key) {
  return (!p.causal || key <= position) && (p.window == 0 || position - key < p.window);
}

// The keys of one split: shares are as equal as multiples of kSplitKeys can be, and those beyond are empty.
SWITCHYARD_HOST_DEVICE inline KeyRange SplitOf(KeyRange all, int most_splits, int split) {
  const int share = (all.end - all.begin + most_splits - 1) / most_splits;
  const int step = (share + kSplitKeys - 1) / kSplitKeys * kSplitKeys;
  const int64_t begin = all.begin + static_cast<int64_t>(split) * step;
  if (begin >= all.end) return {all.end, all.end};
  return {static_cast<int>(begin), Min(all.end, static_cast<int>(begin) + step)};
}

// The keys a row's only query attends to.
SWITCHYARD_HOST_DEVICE inline KeyRange KeysOfOneToken(const AttentionParams& p, int row) {
  const int start = StartOf(p.last_positions, p.start, p.key_rows, row);
  return start < 0 ? KeyRange{0, 0} : VisibleKeys(p, start + 1, start, start);
}

// 16-bit types; rows of whole 16-byte chunks.
bool AllowsTensorCores(const AttentionParams& params, DType dtype);

// Queries of several tokens a row. Positions of keys end with the queries'; `filled` is the number of keys.
cudaError_t LaunchAttentionTensorCore(const AttentionParams& params, DType dtype, int filled,
                                      cudaStream_t stream);
// One query a row and head, keys split over blocks; writes out, or the splits' sums and stats.
cudaError_t LaunchDecodeTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream);
// Both, for any type and head_dim; `filled` counts when there are several tokens.
cudaError_t LaunchAttentionPlain(const AttentionParams& params, DType dtype, int filled, cudaStream_t stream);

}  // namespace switchyard::cuda
