#include "attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "isa.h"
#include "parallel.h"
#include "product.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Keys that meet a block of queries at a time: their panels and scores stay in the second-level cache.
constexpr int64_t kKeyBlock = 512;

// Queries that share a pass over the keys.
constexpr int64_t kQueryBlock = 8 * kTileTokens;

// Keys of one panel, whose scores are computed side by side while it stays in the first-level cache.
constexpr int64_t kKeyGroup = 4 * kPanelColumns;

// Floats from row to row of the scores: a little more than needed, as rows a power of two apart would all
// fall into the same few sets of the cache.
constexpr int64_t kScoreStride = kKeyBlock + 16;

// Queries whose running sums are kept when the keys are too many to be made ready at once.
constexpr int64_t kPassTokens = 43 * kQueryBlock;

constexpr int64_t kWordBytes = 4;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Attention with an online softmax (Dao et al., FlashAttention, arXiv 2205.14135): scores exist for one block
// of queries and one of keys at a time.
class TiledPass {
 public:
  TiledPass(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        panel_(table_.panel[static_cast<int>(args.precision)]),
        workspace_(workspace),
        pool_(pool),
        group_(args.heads / args.kv_heads),
        key_words_(CeilDiv(args.head_dim, panel_.depths)),
        value_columns_(RoundUp(args.head_dim, kPanelColumns)),
        key_bytes_(key_words_ * kKeyBlock * kWordBytes),
        panel_bytes_(key_bytes_ + kKeyBlock / panel_.depths * value_columns_ * kWordBytes) {}

  void Run() {
    const int64_t most = std::max<int64_t>(1, args_.prepared_bytes / panel_bytes_);
    const KeyRange all = BlocksFor(0, args_.tokens);
    const int64_t step = all.end - all.begin <= most ? args_.tokens : kPassTokens;
    for (int64_t token = 0; token < args_.tokens; token += step) {
      const Workspace::Mark mark = workspace_.mark();
      RunTokens(token, std::min(args_.tokens, token + step), most);
      workspace_.Rewind(mark);
    }
  }

 private:
  // Keys and values of one batch row and kv head are a unit.
  struct Unit {
    int64_t row, kv_head;
  };
  Unit UnitAt(int64_t index) const { return {index / args_.kv_heads, index % args_.kv_heads}; }

  // What is known of a block of queries after some of the keys.
  struct State {
    float* sums;     // [kQueryBlock, value_columns_]: exponentials times values
    float* largest;  // [kQueryBlock]: scaled score that the exponentials are relative to
    float* totals;   // [kQueryBlock]: sum of the exponentials
  };

  // One token's or one tile's visible part of a key block, relative to its start.
  static KeyRange Within(KeyRange keys, int64_t block) {
    const int64_t start = block * kKeyBlock;
    const int64_t begin = std::clamp<int64_t>(keys.begin - start, 0, kKeyBlock);
    return {begin, std::clamp<int64_t>(keys.end - start, begin, kKeyBlock)};
  }

  // Blocks of keys that some query among these tokens of any row sees.
  KeyRange BlocksFor(int64_t token0, int64_t token1) const {
    KeyRange keys = {std::numeric_limits<int64_t>::max(), 0};
    for (int64_t row = 0; row < args_.batch; ++row) {
      keys.begin = std::min(keys.begin, VisibleKeys(args_, row, token0).begin);
      keys.end = std::max(keys.end, VisibleKeys(args_, row, token1 - 1).end);
    }
    const KeyRange blocks = {keys.begin / kKeyBlock, CeilDiv(keys.end, kKeyBlock)};
    return {std::min(blocks.begin, blocks.end), blocks.end};
  }

  void RunTokens(int64_t token0, int64_t token1, int64_t most_blocks) {
    token0_ = token0;
    token1_ = token1;
    query_blocks_ = CeilDiv(token1 - token0, kQueryBlock);
    const KeyRange blocks = BlocksFor(token0, token1);
    const int64_t count = blocks.end - blocks.begin;
    const int64_t units = args_.batch * args_.kv_heads;
    // Either several units at once, each with all of its keys, or a part of one unit's keys after the other.
    whole_ = count <= most_blocks;
    const int64_t together = whole_ ? std::min(units, most_blocks / std::max<int64_t>(1, count)) : 1;
    const int64_t step = whole_ ? std::max<int64_t>(1, count) : most_blocks;
    TakeBuffers(together, std::min(step, count));
    for (int64_t unit = 0; unit < units; unit += together) {
      unit0_ = unit;
      unit_count_ = std::min(together, units - unit);
      int64_t block = blocks.begin;
      do {
        blocks_ = {block, std::min(blocks.end, block + step)};
        first_ = block == blocks.begin;
        last_ = blocks_.end == blocks.end;
        Prepare();
        Multiply();
        block += step;
      } while (block < blocks.end);
    }
  }

  void TakeBuffers(int64_t units, int64_t blocks) {
    const int64_t slots = pool_.NumThreads();
    panels_ = workspace_.Take<char>(units * blocks * panel_bytes_);
    state_floats_ = kQueryBlock * (value_columns_ + 2);
    states_ = workspace_.Take<float>(state_floats_ * (whole_ ? slots : group_ * query_blocks_));
    rows_bytes_ = RoundUp(key_words_, kPanelColumns) * kWordBytes * std::max(kKeyGroup, kQueryBlock);
    rows_ = workspace_.Take<char>(slots * rows_bytes_);
    scores_ = workspace_.Take<float>(slots * kQueryBlock * kScoreStride);
  }

  char* PanelsOf(int64_t unit, int64_t block) const {
    return panels_ + (unit * (blocks_.end - blocks_.begin) + block - blocks_.begin) * panel_bytes_;
  }

  void Prepare() {
    const int64_t count = blocks_.end - blocks_.begin;
    ParallelItems(pool_, unit_count_ * count, [&](int64_t slot, int64_t item) {
      const int64_t block = blocks_.begin + item % count;
      const Unit unit = UnitAt(unit0_ + item / count);
      const int64_t keys = std::min(kKeyBlock, args_.rows[unit.row].keys - block * kKeyBlock);
      if (keys <= 0) return;
      char* panels = PanelsOf(item / count, block);
      char* rows = rows_ + slot * rows_bytes_;
      PrepareKeys(unit, block * kKeyBlock, keys, rows, panels);
      PrepareValues(unit, block * kKeyBlock, keys, rows, panels + key_bytes_);
    });
  }

  // Panels of words × kKeyGroup keys, one group after the other.
  void PrepareKeys(Unit unit, int64_t key, int64_t keys, char* rows, char* panel) const {
    const HeadStrides& strides = args_.k_strides;
    const float* k = args_.k + unit.row * strides.row + unit.kv_head * strides.head + key * strides.token;
    const int64_t row_bytes = key_words_ * kWordBytes;
    for (int64_t first = 0; first < keys; first += kKeyGroup, panel += kKeyGroup * row_bytes) {
      const int64_t count = std::min(kKeyGroup, keys - first);
      const char* from = reinterpret_cast<const char*>(k + first * strides.token);
      int64_t from_stride = strides.token * kWordBytes;
      if (args_.precision != Precision::kFloat32) {
        for (int64_t i = 0; i < count; ++i) {
          panel_.convert(k + (first + i) * strides.token, args_.head_dim, rows + i * row_bytes);
        }
        from = rows;
        from_stride = row_bytes;
      }
      if (count < kKeyGroup) std::memset(panel, 0, static_cast<size_t>(kKeyGroup * row_bytes));
      table_.transpose32(from, from_stride, count, key_words_, panel, kKeyGroup * kWordBytes);
    }
  }

  // Panel of words (of one or two keys) × head_dim.
  void PrepareValues(Unit unit, int64_t key, int64_t keys, char* rows, char* panel) const {
    const HeadStrides& strides = args_.v_strides;
    const float* v = args_.v + unit.row * strides.row + unit.kv_head * strides.head + key * strides.token;
    const int64_t row_bytes = value_columns_ * kWordBytes;
    const size_t padding = static_cast<size_t>((value_columns_ - args_.head_dim) * kWordBytes);
    for (int64_t i = 0; i < keys; i += panel_.depths, panel += row_bytes) {
      if (panel_.depths == 1) {
        panel_.convert(v + i * strides.token, args_.head_dim, panel);
      } else {
        const float* second = i + 1 < keys ? v + (i + 1) * strides.token : nullptr;
        PairRows(v + i * strides.token, second, rows, panel);
      }
      std::memset(panel + args_.head_dim * kWordBytes, 0, padding);
    }
  }

  // Two rows side by side, value by value; zeros for a second row that does not exist.
  void PairRows(const float* first, const float* second, char* rows, char* panel) const {
    const int64_t row_bytes = key_words_ * kWordBytes;
    panel_.convert(first, args_.head_dim, rows);
    if (second != nullptr) {
      panel_.convert(second, args_.head_dim, rows + row_bytes);
    } else {
      std::memset(rows + row_bytes, 0, static_cast<size_t>(row_bytes));
    }
    const uint16_t* a = reinterpret_cast<const uint16_t*>(rows);
    const uint16_t* b = reinterpret_cast<const uint16_t*>(rows + row_bytes);
    uint16_t* out = reinterpret_cast<uint16_t*>(panel);
    for (int64_t d = 0; d < args_.head_dim; ++d) {
      out[2 * d] = a[d];
      out[2 * d + 1] = b[d];
    }
  }

  void Multiply() {
    ParallelItems(pool_, unit_count_ * group_ * query_blocks_, [&](int64_t slot, int64_t item) {
      float* sums = states_ + (whole_ ? slot : item) * state_floats_;
      float* largest = sums + kQueryBlock * value_columns_;
      // The last queries see the most keys: they go first, so that the load evens out.
      const int64_t query_block = query_blocks_ - 1 - item % query_blocks_;
      const int64_t head = item / query_blocks_;
      QueryBlock(slot, head / group_, head % group_, token0_ + query_block * kQueryBlock,
                 {sums, largest, largest + kQueryBlock});
    });
  }

  // All prepared keys for the queries from `token` on of one head of a unit.
  void QueryBlock(int64_t slot, int64_t unit_index, int64_t head_of_group, int64_t token,
                  const State& state) const {
    const Unit unit = UnitAt(unit0_ + unit_index);
    const int64_t head = unit.kv_head * group_ + head_of_group;
    const int64_t tokens = std::min(kQueryBlock, token1_ - token);
    char* queries = rows_ + slot * rows_bytes_;
    const float* q = args_.q + unit.row * args_.q_strides.row + head * args_.q_strides.head;
    KeyRange visible[kQueryBlock];
    for (int64_t t = 0; t < tokens; ++t) {
      visible[t] = VisibleKeys(args_, unit.row, token + t);
      panel_.convert(q + (token + t) * args_.q_strides.token, args_.head_dim,
                     queries + t * key_words_ * kWordBytes);
    }
    if (first_) {
      std::fill_n(state.sums, tokens * value_columns_, 0.0f);
      std::fill_n(state.largest, tokens, -kInfinity);
      std::fill_n(state.totals, tokens, 0.0f);
    }
    float* scores = scores_ + slot * kQueryBlock * kScoreStride;
    for (int64_t block = blocks_.begin; block < blocks_.end; ++block) {
      KeyRange seen[kQueryBlock];
      for (int64_t t = 0; t < tokens; ++t) seen[t] = Within(visible[t], block);
      const char* panels = PanelsOf(unit_index, block);
      Scores(queries, panels, seen, tokens, scores);
      for (int64_t t = 0; t < tokens; t += kTileTokens) {
        const int64_t end = std::min(tokens, t + kTileTokens);
        AddValues(panels + key_bytes_, seen, t, end, scores, state);
      }
    }
    if (last_) Finish(unit.row, head, token, tokens, state);
  }

  // Smallest range that holds those of tokens [t0, t1): with a causal mask both ends only move forward.
  static KeyRange Union(const KeyRange* seen, int64_t t0, int64_t t1) {
    int64_t first = t0;
    while (first < t1 && seen[first].begin == seen[first].end) ++first;
    if (first == t1) return {0, 0};
    int64_t last = t1 - 1;
    while (seen[last].begin == seen[last].end) --last;
    return {seen[first].begin, seen[last].end};
  }

  void Scores(const char* queries, const char* keys, const KeyRange* seen, int64_t tokens,
              float* scores) const {
    const int64_t query_bytes = key_words_ * kWordBytes;
    const KeyRange all = Union(seen, 0, tokens);
    for (int64_t column = all.begin / kKeyGroup * kKeyGroup; column < all.end; column += kKeyGroup) {
      for (int64_t t = 0; t < tokens; t += kTileTokens) {
        const int64_t end = std::min(tokens, t + kTileTokens);
        const KeyRange wanted = Union(seen, t, end);
        if (wanted.begin >= column + kKeyGroup || wanted.end <= column) continue;
        panel_.multiply({queries + t * query_bytes, query_bytes, static_cast<int>(end - t),
                         keys + column * query_bytes, kKeyGroup * kWordBytes, key_words_, kKeyGroup,
                         scores + t * kScoreStride + column, kScoreStride, false});
      }
    }
  }

  // Turns the scores of tokens [t0, t1), one tile, into exponentials and adds these times the values.
  void AddValues(const char* values, const KeyRange* seen, int64_t t0, int64_t t1, float* scores,
                 const State& state) const {
    const KeyRange both = Union(seen, t0, t1);
    if (both.begin == both.end) return;
    // Whole words; the values behind the last key of a word are zeros.
    const KeyRange keys = {both.begin / panel_.depths * panel_.depths, RoundUp(both.end, panel_.depths)};
    for (int64_t t = t0; t < t1; ++t) {
      float* row = scores + t * kScoreStride;
      Softmax(seen[t], t, row, state);
      const int64_t begin = seen[t].begin == seen[t].end ? keys.end : seen[t].begin;
      std::fill(row + keys.begin, row + begin, 0.0f);
      std::fill(row + std::max(begin, seen[t].end), row + keys.end, 0.0f);
      panel_.convert(row + keys.begin, keys.end - keys.begin, row + keys.begin);
    }
    panel_.multiply({reinterpret_cast<const char*>(scores + t0 * kScoreStride + keys.begin),
                     kScoreStride * kWordBytes, static_cast<int>(t1 - t0),
                     values + keys.begin / panel_.depths * value_columns_ * kWordBytes,
                     value_columns_ * kWordBytes, (keys.end - keys.begin) / panel_.depths, value_columns_,
                     state.sums + t0 * value_columns_, value_columns_, true});
  }

  // Exponentials in place of one token's scores; what was summed so far is brought to the new largest score.
  void Softmax(KeyRange seen, int64_t t, float* row, const State& state) const {
    const int64_t count = seen.end - seen.begin;
    if (count == 0) return;
    float* from = row + seen.begin;
    const float largest = std::max(state.largest[t], args_.scale * table_.max(from, count));
    if (largest != state.largest[t]) {
      const float shrink = std::exp(state.largest[t] - largest);
      state.totals[t] *= shrink;
      float* sums = state.sums + t * value_columns_;
      table_.scale_add(sums, shrink, value_columns_, sums, false);
      state.largest[t] = largest;
    }
    state.totals[t] += table_.exp_sum(from, args_.scale, largest, count, from);
  }

  void Finish(int64_t row, int64_t head, int64_t token, int64_t tokens, const State& state) const {
    const HeadStrides& strides = args_.out_strides;
    for (int64_t t = 0; t < tokens; ++t) {
      float* out = args_.out + row * strides.row + head * strides.head + (token + t) * strides.token;
      const float factor = state.totals[t] == 0.0f ? 0.0f : 1.0f / state.totals[t];
      table_.scale_add(state.sums + t * value_columns_, factor, args_.head_dim, out, false);
    }
  }

  const AttentionArgs& args_;
  const KernelTable& table_;
  const PanelKernel& panel_;
  Workspace& workspace_;
  ThreadPool& pool_;
  const int64_t group_;          // query heads of one kv head
  const int64_t key_words_;      // of one key or query
  const int64_t value_columns_;  // head_dim, padded
  const int64_t key_bytes_;      // of one block's key panel
  const int64_t panel_bytes_;    // of one block's key and value panels

  // The tokens at work, the units whose keys are prepared, and which blocks of these.
  int64_t token0_ = 0, token1_ = 0;
  int64_t query_blocks_ = 0;
  int64_t unit0_ = 0, unit_count_ = 0;
  KeyRange blocks_ = {0, 0};
  bool whole_ = true;  // all blocks are prepared at once
  bool first_ = true, last_ = true;

  char* panels_ = nullptr;  // [units, blocks, panel_bytes_]
  float* states_ = nullptr;
  int64_t state_floats_ = 0;
  char* rows_ = nullptr;  // for each slot: keys on their way into a panel, or queries
  int64_t rows_bytes_ = 0;
  float* scores_ = nullptr;  // for each slot [kQueryBlock, kScoreStride]
};

}  // namespace

void TiledAttention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool) {
  TiledPass(args, workspace, pool).Run();
}

void Attention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool) {
  if (args.batch == 0 || args.tokens == 0) return;
  const Workspace::Mark mark = workspace.mark();
  if (args.tokens == 1 || args.tokens * (args.heads / args.kv_heads) <= kStreamedQueries) {
    StreamedAttention(args, workspace, pool);
  } else {
    TiledAttention(args, workspace, pool);
  }
  workspace.Rewind(mark);
}

}  // namespace switchyard::cpu
