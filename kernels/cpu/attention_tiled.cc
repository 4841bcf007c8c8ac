#include <cmath>
#include <limits>

#include "arch/isa.h"
#include "attention.h"
#include "attention_panels.h"
#include "parallel.h"
#include "product.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Queries that share a pass over the keys: whole tiles of every instruction set.
constexpr int64_t kQueryBlock = 48;
static_assert(kQueryBlock % kTileTokens == 0);

// Floats from row to row of the scores: a little more than needed, as rows a power of two apart would all
// fall into the same few sets of the cache.
constexpr int64_t kScoreStride = kKeyBlock + 16;

// Queries whose running sums are kept when the keys are too many to be made ready at once.
constexpr int64_t kPassTokens = 43 * kQueryBlock;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Some tokens of a row, all query heads of one kv head, and which blocks of keys they meet next.
struct Span {
  int64_t row, kv_head;
  int64_t token0, token1;
  KeyRange blocks;
  char* panels = nullptr;
  // Sums of every query block of every head, if they outlive one call of Multiply.
  float* states = nullptr;
  bool first = true, last = true;  // whether these are the first and the last keys the tokens see

  int64_t QueryBlocks() const { return CeilDiv(token1 - token0, kQueryBlock); }
};

// Attention with an online softmax (Dao et al., FlashAttention, arXiv 2205.14135): scores exist for one block
// of queries and one of keys at a time.
class TiledPass {
 public:
  TiledPass(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        panel_(table_.panel[static_cast<int>(args.precision)]),
        panels_(args, table_),
        workspace_(workspace),
        pool_(pool),
        group_(args.heads / args.kv_heads),
        query_bytes_(panels_.key_words() * kWordBytes),
        value_columns_(panels_.value_columns()),
        state_floats_(kQueryBlock * (value_columns_ + 2)) {
    const int64_t slots = pool.NumThreads();
    scratch_bytes_ = RoundUp(std::max(panels_.scratch_bytes(), kQueryBlock * query_bytes_), 64);
    scratch_ = workspace.Take<char>(slots * scratch_bytes_);
    scores_ = workspace.Take<float>(slots * kQueryBlock * kScoreStride);
    states_ = workspace.Take<float>(slots * state_floats_);
  }

  // Several rows at once, as far as there is room for all of their keys; a row whose keys do not fit alone,
  // in parts.
  void Run(const std::vector<int64_t>& rows) {
    const int64_t most = std::max<int64_t>(1, args_.prepared_bytes / panels_.block_bytes());
    std::vector<Span> together;
    int64_t blocks = 0;
    for (const int64_t row : rows) {
      const int64_t tokens = args_.rows[row].tokens;
      const KeyRange keys = BlocksFor(row, 0, tokens);
      const int64_t count = keys.end - keys.begin;
      if (count > most) {
        RunInParts(row, most);
        continue;
      }
      for (int64_t kv_head = 0; kv_head < args_.kv_heads; ++kv_head) {
        if (blocks + count > most) {
          RunTogether(together);
          together.clear();
          blocks = 0;
        }
        together.push_back({row, kv_head, 0, tokens, keys});
        blocks += count;
      }
    }
    RunTogether(together);
  }

 private:
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

  // Blocks of keys that some of a row's tokens [token0, token1) see.
  KeyRange BlocksFor(int64_t row, int64_t token0, int64_t token1) const {
    const AttentionRow& of = args_.rows[row];
    const int64_t begin = VisibleKeys(args_, of, token0).begin / kKeyBlock;
    return {begin, std::max(begin, CeilDiv(VisibleKeys(args_, of, token1 - 1).end, kKeyBlock))};
  }

  void RunTogether(std::vector<Span>& spans) {
    // The longest first, so that the load evens out at the end.
    std::stable_sort(spans.begin(), spans.end(),
                     [&](const Span& a, const Span& b) { return Work(a) > Work(b); });
    const Workspace::Mark mark = workspace_.mark();
    Prepare(spans);
    Multiply(spans);
    workspace_.Rewind(mark);
  }
  static int64_t Work(const Span& span) {
    return (span.token1 - span.token0) * (span.blocks.end - span.blocks.begin);
  }

  void RunInParts(int64_t row, int64_t most_blocks) {
    const int64_t tokens = args_.rows[row].tokens;
    for (int64_t token = 0; token < tokens; token += kPassTokens) {
      const int64_t end = std::min(tokens, token + kPassTokens);
      const KeyRange blocks = BlocksFor(row, token, end);
      for (int64_t kv_head = 0; kv_head < args_.kv_heads; ++kv_head) {
        const Workspace::Mark mark = workspace_.mark();
        float* states = workspace_.Take<float>(group_ * CeilDiv(end - token, kQueryBlock) * state_floats_);
        int64_t block = blocks.begin;
        do {
          const KeyRange part = {block, std::min(blocks.end, block + most_blocks)};
          std::vector<Span> spans = {{row, kv_head, token, end, part, nullptr, states, block == blocks.begin,
                                      part.end == blocks.end}};
          RunTogether(spans);
          block = part.end;
        } while (block < blocks.end);
        workspace_.Rewind(mark);
      }
    }
  }

  char* PanelsOf(const Span& span, int64_t block) const {
    return span.panels + (block - span.blocks.begin) * panels_.block_bytes();
  }

  void Prepare(std::vector<Span>& spans) {
    struct Item {
      const Span* span;
      int64_t block;
    };
    std::vector<Item> items;
    for (Span& span : spans) {
      span.panels = workspace_.Take<char>((span.blocks.end - span.blocks.begin) * panels_.block_bytes());
      for (int64_t block = span.blocks.begin; block < span.blocks.end; ++block)
        items.push_back({&span, block});
    }
    ParallelItems(pool_, static_cast<int64_t>(items.size()), [&](int64_t slot, int64_t i) {
      const auto& [span, block] = items[static_cast<size_t>(i)];
      panels_.Prepare(span->row, span->kv_head, block, scratch_ + slot * scratch_bytes_,
                      PanelsOf(*span, block));
    });
  }

  void Multiply(const std::vector<Span>& spans) {
    struct Item {
      const Span* span;
      int64_t head_of_group, query_block;
    };
    std::vector<Item> items;
    for (const Span& span : spans) {
      for (int64_t head = 0; head < group_; ++head) {
        // The last queries see the most keys: they go first.
        for (int64_t block = span.QueryBlocks() - 1; block >= 0; --block)
          items.push_back({&span, head, block});
      }
    }
    ParallelItems(pool_, static_cast<int64_t>(items.size()), [&](int64_t slot, int64_t i) {
      const auto& [span, head, block] = items[static_cast<size_t>(i)];
      float* sums = span->states == nullptr
                        ? states_ + slot * state_floats_
                        : span->states + (head * span->QueryBlocks() + block) * state_floats_;
      float* largest = sums + kQueryBlock * value_columns_;
      QueryBlock(slot, *span, head, span->token0 + block * kQueryBlock,
                 {sums, largest, largest + kQueryBlock});
    });
  }

  // The span's prepared keys for the queries from `token` on of one head.
  void QueryBlock(int64_t slot, const Span& span, int64_t head_of_group, int64_t token,
                  const State& state) const {
    const AttentionRow& row = args_.rows[span.row];
    const int64_t stride = args_.heads * args_.head_dim;
    const int64_t head = span.kv_head * group_ + head_of_group;
    const int64_t at = (row.first + token) * stride + head * args_.head_dim;
    const int64_t tokens = std::min(kQueryBlock, span.token1 - token);
    char* queries = scratch_ + slot * scratch_bytes_;
    KeyRange visible[kQueryBlock];
    for (int64_t t = 0; t < tokens; ++t) {
      visible[t] = VisibleKeys(args_, row, token + t);
      panel_.convert(args_.q + at + t * stride, args_.head_dim, queries + t * query_bytes_);
    }
    if (span.first) {
      std::fill_n(state.sums, tokens * value_columns_, 0.0f);
      std::fill_n(state.largest, tokens, -kInfinity);
      std::fill_n(state.totals, tokens, 0.0f);
    }
    float* scores = scores_ + slot * kQueryBlock * kScoreStride;
    for (int64_t block = span.blocks.begin; block < span.blocks.end; ++block) {
      KeyRange seen[kQueryBlock];
      for (int64_t t = 0; t < tokens; ++t) seen[t] = Within(visible[t], block);
      const char* panels = PanelsOf(span, block);
      Scores(queries, panels, seen, tokens, scores);
      for (int64_t t = 0; t < tokens; t += panel_.tokens) {
        const int64_t end = std::min(tokens, t + panel_.tokens);
        AddValues(panels + panels_.key_bytes(), seen, t, end, scores, state);
      }
    }
    if (!span.last) return;
    for (int64_t t = 0; t < tokens; ++t) {
      const float factor = state.totals[t] == 0.0f ? 0.0f : 1.0f / state.totals[t];
      table_.scale_add(state.sums + t * value_columns_, factor, args_.head_dim, args_.out + at + t * stride,
                       false);
    }
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
    const KeyRange all = Union(seen, 0, tokens);
    for (int64_t column = all.begin / kKeyGroup * kKeyGroup; column < all.end; column += kKeyGroup) {
      for (int64_t t = 0; t < tokens; t += panel_.tokens) {
        const int64_t end = std::min(tokens, t + panel_.tokens);
        const KeyRange wanted = Union(seen, t, end);
        if (wanted.begin >= column + kKeyGroup || wanted.end <= column) continue;
        panel_.multiply({queries + t * query_bytes_, query_bytes_, static_cast<int>(end - t),
                         keys + column * query_bytes_, kKeyGroup * kWordBytes, panels_.key_words(), kKeyGroup,
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

  const AttentionArgs& args_;
  const KernelTable& table_;
  const PanelKernel& panel_;
  const KeyPanels panels_;
  Workspace& workspace_;
  ThreadPool& pool_;
  const int64_t group_;        // query heads of one kv head
  const int64_t query_bytes_;  // of one query as words
  const int64_t value_columns_;
  const int64_t state_floats_;
  int64_t scratch_bytes_ = 0;
  char* scratch_ = nullptr;  // for each slot: keys on their way into a panel, or queries
  float* scores_ = nullptr;  // for each slot [kQueryBlock, kScoreStride]
  float* states_ = nullptr;  // for each slot [state_floats_]
};

}  // namespace

void TiledAttention(const AttentionArgs& args, const std::vector<int64_t>& rows, Workspace& workspace,
                    ThreadPool& pool) {
  TiledPass(args, workspace, pool).Run(rows);
}

}  // namespace switchyard::cpu
