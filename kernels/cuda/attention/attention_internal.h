// What the attention kernels share: their parameters, which tokens and keys a row has, which keys a query
// sees, where these lie, and how they are split over blocks.
#pragma once
#include "../common/launch.h"
#include "../kernels.h"

namespace switchyard::cuda {

constexpr int kMaxHeadDim = 256;
constexpr int kMaxTensorCoreHeadDim = 128;
constexpr int kHeadChunk = 8;      // 16-bit elements in 16 bytes
constexpr int kKeyAlignment = 16;  // keys from a multiple of this on lie side by side: no block is smaller
constexpr int kSplitKeys = 64;     // a split holds a multiple of this many keys
constexpr int kMaxSplits = 128;
constexpr int kMaxDecodeSplits = 64;  // of those that the last block joins
constexpr int kDecodeHeads = 16;      // query heads that a block of decoding takes at most
constexpr int kNarrowTile = 64;       // queries
constexpr int kWideTile = 128;

// Part of the keys attended to, and the largest score (in powers of two) their exponentials are relative to.
struct SplitStats {
  float largest;
  float total;
};

// Which rows a launch is for. The others' blocks end at once: what rows there are is known on the device
// alone.
enum class RowChoice { kAll, kSeveralTokens, kOneToken };

// What happens to queries, keys and values before they meet.
struct PrepareParams {
  const float* q;  // [tokens, heads, head_dim]
  const float* k;  // [key_tokens, kv_heads, head_dim], or null for none
  const float* v;  // the same, as they are
  int key_tokens;
  const void* q_norm;  // [head_dim], or null
  const void* k_norm;
  float epsilon, norm_offset;
  const float* cos;  // [tokens, pairs]
  const float* sin;
  int pairs;
};

struct AttentionParams {
  PrepareParams inputs;
  const void* q;                // [tokens, heads, q_pitch]
  const void* keys;             // [blocks, kv_heads, block_size, key_pitch]
  const void* values;           // like keys
  float* out;                   // [tokens, heads, head_dim]
  const int32_t* row_starts;    // [rows + 1], or null: every row has row_tokens tokens and row_keys keys
  const int32_t* past_lengths;  // [rows]
  const int32_t* tables;        // [rows, table_size], or null: row r has block r alone
  int tokens, rows, row_tokens, row_keys;
  int table_size, blocks, block_size,
      block_shift;  // a block has 2^block_shift positions where there are tables
  int heads, kv_heads, head_dim;
  int q_pitch, key_pitch;
  int tile_queries;  // of a head, that split their keys together
  int tile_heads;    // sharing a key head, in one tile of attention_prefill.cu
  RowChoice choice;
  int slots;  // tokens that the launch is for; with kOneToken, rows
  bool causal;
  int window;
  const int32_t* selected;              // [tokens, selected_blocks], or null: queries see all
  int selected_blocks, selected_block;  // listed for a query; positions of each
  float scale;                          // times log2(e)
  int splits;                           // blocks that share a tile's keys
  int most_splits;                      // what the number of keys in a split is computed with
  float* split_sums;        // [slots, heads, splits, head_dim]; null for one split: results go to out
  SplitStats* split_stats;  // [slots, heads, splits]
  uint32_t* counters;       // kAttentionCounters, as CachedAttentionArgs has them
};

struct KeyRange {
  int begin, end;
};

SWITCHYARD_HOST_DEVICE constexpr int Min(int a, int b) { return a < b ? a : b; }
SWITCHYARD_HOST_DEVICE constexpr int Max(int a, int b) { return a > b ? a : b; }

// A row's tokens, the position of the first, and how many keys it has afterwards: none where the tokens have
// no place among its blocks.
struct RowSpan {
  int row;
  int first, tokens;
  int past;
  int keys;
};

SWITCHYARD_HOST_DEVICE inline int StartOf(const AttentionParams& p, int row) {
  return p.row_starts == nullptr ? row * p.row_tokens : p.row_starts[row];
}

// Whatever the device memory holds, a span's tokens are among the pass's, and its keys among its blocks.
SWITCHYARD_HOST_DEVICE inline RowSpan SpanOf(const AttentionParams& p, int row) {
  const int start = StartOf(p, row);
  const int next = StartOf(p, row + 1);
  const int past = p.past_lengths == nullptr ? 0 : p.past_lengths[row];  // all are loaded before one is used
  const int first = Min(Max(start, 0), p.tokens);
  const int tokens = Min(Max(next, first), p.tokens) - first;
  if (p.past_lengths == nullptr) return {row, first, tokens, 0, p.row_keys};
  const bool fits = past >= 0 && past <= p.table_size * p.block_size - tokens;
  return {row, first, tokens, past, fits ? past + tokens : 0};
}

// The last row r with start(r) <= at, or 0; start grows from row to row.
template <typename Start>
SWITCHYARD_HOST_DEVICE int LastRow(int rows, int at, const Start& start) {
  int low = 0;
  for (int high = rows; high - low > 1;) {
    const int middle = low + (high - low) / 2;
    (start(middle) <= at ? low : high) = middle;
  }
  return low;
}

// The span of a token's row.
SWITCHYARD_HOST_DEVICE inline RowSpan SpanOfToken(const AttentionParams& p, int token) {
  if (token < p.rows) {
    // Where every row has one token, as in decoding, loads at once instead of several in turn.
    const RowSpan guess = SpanOf(p, token);
    if (guess.first == token && guess.tokens == 1) return guess;
  }
  return SpanOf(p, LastRow(p.rows, token, [&](int row) { return StartOf(p, row); }));
}

// A token that a launch is for.
struct Query {
  RowSpan span;
  int token;     // of the pass
  int position;  // in its row, if that has keys
  bool chosen;   // whether the launch is for it
};

SWITCHYARD_HOST_DEVICE inline Query QueryOf(const AttentionParams& p, int slot) {
  if (p.choice == RowChoice::kOneToken) {
    const RowSpan span = SpanOf(p, slot);
    return {span, span.first, span.keys - 1, span.tokens == 1};
  }
  const RowSpan span = SpanOfToken(p, slot);
  const int index = slot - span.first;
  const bool inside = index >= 0 && index < span.tokens;
  return {span, slot, span.keys - span.tokens + index,
          inside && (p.choice == RowChoice::kAll || span.tokens > 1)};
}

// A tile of up to tile_queries tokens of one row. Rows' tiles are numbered one row after the other, with a
// gap where a row fills its last one: row r's begin at StartOf(r) / tile_queries + r.
struct QueryTile {
  RowSpan span;
  int index;  // in the row
  bool chosen;
};

SWITCHYARD_HOST_DEVICE inline int TileSlots(const AttentionParams& p) {
  return p.tokens / p.tile_queries + p.rows;
}

SWITCHYARD_HOST_DEVICE inline QueryTile TileOf(const AttentionParams& p, int slot) {
  const auto first_slot = [&](int row) { return StartOf(p, row) / p.tile_queries + row; };
  const int row = LastRow(p.rows, slot, first_slot);
  const RowSpan span = SpanOf(p, row);
  const int index = slot - first_slot(row);
  const bool inside = index >= 0 && index <= (span.tokens - 1) / p.tile_queries && span.tokens > 0;
  return {span, index, inside && (p.choice == RowChoice::kAll || span.tokens > 1)};
}

// The keys that some query of a row's tile sees, from a multiple of kKeyAlignment on.
SWITCHYARD_HOST_DEVICE inline KeyRange KeysOfTile(const AttentionParams& p, const RowSpan& span, int tile) {
  if (span.keys == 0) return {0, 0};
  const int first = span.past + tile * p.tile_queries;
  const int last = span.past + Min(span.tokens, (tile + 1) * p.tile_queries) - 1;
  const int end = p.causal ? last + 1 : span.keys;
  const int begin = p.window > 0 ? Max(0, first - p.window + 1) : 0;
  return {begin / kKeyAlignment * kKeyAlignment, end};
}

SWITCHYARD_HOST_DEVICE inline bool IsVisible(const AttentionParams& p, int position, int key) {
  return (!p.causal || key <= position) && (p.window == 0 || position - key < p.window);
}

// The visible keys of those before `end`, counted from `key` on.
SWITCHYARD_HOST_DEVICE inline KeyRange VisibleKeys(const AttentionParams& p, int position, int end, int key) {
  const int begin = p.window == 0 ? 0 : position - p.window + 1;
  return {begin - key, (p.causal ? Min(end, position + 1) : end) - key};
}

// Where blocks are selected: those that a query lists, or null where it sees all.
SWITCHYARD_HOST_DEVICE inline const int32_t* SelectedFor(const AttentionParams& p, const Query& query) {
  if (p.selected == nullptr) return nullptr;
  const int32_t* blocks = p.selected + static_cast<int64_t>(query.token) * p.selected_blocks;
  return blocks[0] < 0 ? nullptr : blocks;
}

// The keys that a query sees by itself, counted in their order: where blocks are selected, others than those
// between come to no number.
SWITCHYARD_HOST_DEVICE inline KeyRange KeysOfQuery(const AttentionParams& p, const Query& query) {
  const RowSpan& span = query.span;
  if (span.keys == 0 || SelectedFor(p, query) == nullptr)
    return KeysOfTile(p, span, (query.token - span.first) / p.tile_queries);
  return {0, p.selected_blocks * p.selected_block + (query.position + 1) % p.selected_block};
}

// The position of one of these; -1 where a list names a block that the query does not see.
SWITCHYARD_HOST_DEVICE inline int PositionOf(const AttentionParams& p, const Query& query, int key) {
  const int32_t* blocks = SelectedFor(p, query);
  if (blocks == nullptr) return key;
  const int index = key / p.selected_block;
  const int complete = (query.position + 1) / p.selected_block;
  const int block = index < p.selected_blocks ? blocks[index] : complete;
  if (block < 0 || block > complete) return -1;
  const int position = block * p.selected_block + key % p.selected_block;
  return position <= query.position ? position : -1;
}

// The block of the pool that has a row's position, or -1 where its table names none: keys and values then
// count as zeros.
SWITCHYARD_HOST_DEVICE inline int BlockOf(const AttentionParams& p, int row, int position) {
  if (p.tables == nullptr) return row;
  const int block = p.tables[static_cast<int64_t>(row) * p.table_size + (position >> p.block_shift)];
  return block < 0 || block >= p.blocks ? -1 : block;
}

// Elements from the first key to that of a row's position, which lies in `block`.
SWITCHYARD_HOST_DEVICE inline int64_t OffsetInBlock(const AttentionParams& p, int block, int kv_head,
                                                    int position) {
  if (p.tables != nullptr) position &= p.block_size - 1;
  return ((static_cast<int64_t>(block) * p.kv_heads + kv_head) * p.block_size + position) * p.key_pitch;
}

// The same; -1 where there is no such block.
SWITCHYARD_HOST_DEVICE inline int64_t KeyOffset(const AttentionParams& p, int row, int kv_head,
                                                int position) {
  const int block = BlockOf(p, row, position);
  return block < 0 ? -1 : OffsetInBlock(p, block, kv_head, position);
}

// Keys of a split: shares are as equal as multiples of kSplitKeys can be, and splits beyond are empty.
SWITCHYARD_HOST_DEVICE inline int KeysPerSplit(KeyRange all, int most_splits) {
  const int share = (all.end - all.begin + most_splits - 1) / most_splits;
  return (share + kSplitKeys - 1) / kSplitKeys * kSplitKeys;
}

// Splits that have keys.
SWITCHYARD_HOST_DEVICE inline int SplitsWithKeys(const AttentionParams& p, KeyRange all) {
  if (all.begin >= all.end) return 0;
  const int step = KeysPerSplit(all, p.most_splits);
  return (all.end - all.begin + step - 1) / step;
}

SWITCHYARD_HOST_DEVICE inline KeyRange SplitOf(const AttentionParams& p, KeyRange all, int split) {
  if (p.splits == 1) return all;
  const int step = KeysPerSplit(all, p.most_splits);
  const int64_t begin = all.begin + static_cast<int64_t>(split) * step;
  if (begin >= all.end) return {all.end, all.end};
  return {static_cast<int>(begin), Min(all.end, static_cast<int>(begin) + step)};
}

// Norms and rotates queries and keys, rounds them and the values to dtype, and brings them to their places.
cudaError_t LaunchAttentionPrepare(const AttentionParams& params, DType dtype, cudaStream_t stream);

// 16-bit types; rows of whole 16-byte chunks; results that are written in pairs.
bool AllowsTensorCores(const AttentionParams& params, DType dtype);

// Rows' queries in tiles of 64 or 128: writes out, or the splits' sums and stats.
cudaError_t LaunchAttentionTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream);
// Queries one by one, with the heads that share a key head. Takes queries, and the keys and values of new
// tokens, from the projections, and joins splits: neither of the steps around it is needed.
cudaError_t LaunchDecodeTensorCore(const AttentionParams& params, DType dtype, cudaStream_t stream);
// Any type and head_dim, queries one by one; writes the same.
cudaError_t LaunchAttentionPlain(const AttentionParams& params, DType dtype, cudaStream_t stream);

// Joins the splits' sums, if there are several.
cudaError_t LaunchAttentionCombine(const AttentionParams& params, cudaStream_t stream);

}  // namespace switchyard::cuda
