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
constexpr int kNarrowTile = 64;  // queries
constexpr int kWideTile = 128;

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
  int start;         // position of a row's first query, unless last_positions says
  int filled;        // keys of a row, unless last_positions says
  int tile_queries;  // queries that split their keys together
  bool causal;
  int window;
  float scale;              // times log2(e)
  int splits;               // blocks that share a tile's keys
  int most_splits;          // what the number of keys in a split is computed with
  float* split_sums;        // [batch, heads, tokens, splits, head_dim]; null for one split: results go to out
  SplitStats* split_stats;  // [batch, heads, tokens, splits]
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

// The keys that some query of a tile sees; none when its position lies outside the cache.
SWITCHYARD_HOST_DEVICE inline KeyRange KeysOfTile(const AttentionParams& p, int row, int tile) {
  const int start = StartOf(p.last_positions, p.start, p.key_rows, row);
  if (start < 0) return {0, 0};
  const int first = start + tile * p.tile_queries;
  const int last = start + Min(p.tokens, (tile + 1) * p.tile_queries) - 1;
  const int filled = p.last_positions != nullptr ? start + 1 : p.filled;
  const int end = p.causal ? Min(filled, last + 1) : filled;
  const int begin = p.window > 0 ? Max(0, first - p.window + 1) : 0;
  return {Min(begin, end), end};
}

SWITCHYARD_HOST_DEVICE inline bool IsVisible(const AttentionParams& p, int position, int key) {
  return (!p.causal || key <= position) && (p.window == 0 || position - key < p.window);
}

// Keys of a split: shares are as equal as multiples of kSplitKeys can be, and splits beyond are empty.
SWITCHYARD_HOST_DEVICE inline int KeysPerSplit(KeyRange all, int most_splits) {
  const int share = (all.end - all.begin + most_splits - 1) / most_splits;
  return (share + kSplitKeys - 1) / kSplitKeys * kSplitKeys;
}

SWITCHYARD_HOST_DEVICE inline KeyRange SplitOf(const AttentionParams& p, KeyRange all, int split) {
  if (p.splits == 1) return all;
  const int step = KeysPerSplit(all, p.most_splits);
  const int64_t begin = all.begin + static_cast<int64_t>(split) * step;
  if (begin >= all.end) return {all.end, all.end};
  return {static_cast<int>(begin), Min(all.end, static_cast<int>(begin) + step)};
}

// 16-bit types; rows of whole 16-byte chunks.
bool AllowsTensorCores(const AttentionParams& params, DType dtype);

// Any number of queries a row, in tiles of 64 or 128. All three write out, or the splits' sums and stats.
cudaError_t LaunchAttentionTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream);
// One query a row and head.
cudaError_t LaunchDecodeTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream);
// Any type, head_dim and number of queries, in tiles of one.
cudaError_t LaunchAttentionPlain(const AttentionParams& params, DType dtype, cudaStream_t stream);

}  // namespace switchyard::cuda
