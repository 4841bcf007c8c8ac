// A call of attention over a cache in guarded memory, and what plain loops say of it.
#pragma once
#include <climits>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>

#include "emulated.h"

namespace testing {

using namespace switchyard;
using namespace switchyard::cuda;

struct Heads {
  int heads, kv_heads, head_dim;
};

inline double AttentionTolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 4e-6;
  return dtype == DType::kFloat16 ? 2e-3 : 1.2e-2;
}

// A head as it enters the products: normalised where there is a weight, and the halves of its first 2 * pairs
// values rotated.
inline std::vector<double> PrepareHead(const float* x, int head_dim, const Tensor* norm, double epsilon,
                                       const float* cos, const float* sin, int pairs) {
  std::vector<double> head(x, x + head_dim);
  if (norm != nullptr) {
    double squares = 0.0;
    for (const double value : head) squares += value * value;
    const double factor = 1.0 / std::sqrt(squares / head_dim + epsilon);
    for (int d = 0; d < head_dim; ++d) head[d] *= factor * norm->values[d];
  }
  for (int d = 0; d < pairs; ++d) {
    const double low = head[d], high = head[d + pairs];
    head[d] = low * cos[d] - high * sin[d];
    head[d + pairs] = high * cos[d] + low * sin[d];
  }
  return head;
}

// softmax(scale * q . k^T) . v over the keys for which visible(key) holds.
template <typename Visible, typename At>
std::vector<double> Attend(const std::vector<double>& q, int keys, double scale, const Visible& visible,
                           const At& key_at, const At& value_at) {
  std::vector<double> scores(keys, -std::numeric_limits<double>::infinity());
  for (int j = 0; j < keys; ++j) {
    if (!visible(j)) continue;
    scores[j] = 0.0;
    for (size_t d = 0; d < q.size(); ++d) scores[j] += q[d] * key_at(j, d) * scale;
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> out(q.size(), 0.0);
  double total = 0.0;
  for (int j = 0; j < keys; ++j) {
    if (!visible(j)) continue;
    const double weight = std::exp(scores[j] - largest);
    total += weight;
    for (size_t d = 0; d < q.size(); ++d) out[d] += weight * value_at(j, d);
  }
  for (double& value : out) value /= total;
  return out;
}

// A row's new tokens and how many positions are filled before.
struct Row {
  int tokens, past;
  int keys() const { return past + tokens; }
};

struct CacheCase {
  DType dtype;
  std::vector<Row> rows;
  Heads heads;
  int block_size;
  int window;
  bool norms;
  int pairs = -1;          // -1: half a head
  int shared_blocks = 0;   // that all rows begin with
  int table_size = 0;      // 0: a little more than the longest row needs
  int selected = 0;        // blocks listed for a query that does not see all
  int selected_block = 0;  // positions of each

  int Pairs() const { return pairs < 0 ? heads.head_dim / 2 : pairs; }
  int Tokens() const {
    int tokens = 0;
    for (const Row& row : rows) tokens += row.tokens;
    return tokens;
  }
  int BlocksOf(int row) const { return (rows[row].keys() + block_size - 1) / block_size; }
  int TableSize() const {
    int most = 0;
    for (size_t r = 0; r < rows.size(); ++r) most = std::max(most, BlocksOf(static_cast<int>(r)));
    return table_size > 0 ? table_size : most + 1;
  }
};

// Which rows, positions and blocks a call is about, in device memory.
class Places {
 public:
  explicit Places(const CacheCase& c)
      : starts((c.rows.size() + 1) * 4, 4),
        lengths(c.rows.size() * 4, 4),
        tables(c.rows.size() * c.TableSize() * 4, 4) {
    int needed = 0;
    for (size_t r = 0; r < c.rows.size(); ++r) needed += c.BlocksOf(static_cast<int>(r));
    std::vector<int32_t> free(needed + 2);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), testing::Random());
    blocks = static_cast<int>(free.size());
    for (size_t r = 0; r < c.rows.size(); ++r) {
      starts.As<int32_t>()[r] = r == 0 ? 0 : starts.As<int32_t>()[r - 1] + c.rows[r - 1].tokens;
      lengths.As<int32_t>()[r] = c.rows[r].past;
      for (int i = 0; i < c.TableSize(); ++i) {
        int32_t& block = tables.As<int32_t>()[r * c.TableSize() + i];
        block = r % 2 == 0 ? -1 : INT_MAX;  // beyond need
        if (i >= c.BlocksOf(static_cast<int>(r))) continue;
        block = r > 0 && i < c.shared_blocks ? tables.As<int32_t>()[i] : free.back();
        if (r == 0 || i >= c.shared_blocks) free.pop_back();
      }
    }
    starts.As<int32_t>()[c.rows.size()] = c.Tokens();
  }
  int blocks;
  Guarded starts, lengths, tables;
};

// Everything a call works on, with the cache as it was before.
class CachedCall {
 public:
  explicit CachedCall(const CacheCase& c)
      : c_(c),
        places_(c),
        q_(DType::kFloat32, Count(c.heads.heads), 2.0f, 4),
        k_(DType::kFloat32, Count(c.heads.kv_heads), 2.0f, 4),
        v_(DType::kFloat32, Count(c.heads.kv_heads), 1.0f, 4),
        cos_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        sin_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        q_norm_(c.dtype, c.heads.head_dim, 1.5f, 2),
        k_norm_(c.dtype, c.heads.head_dim, 1.5f, 2),
        keys_(c.dtype, CacheCount(), 1.0f),
        values_(c.dtype, CacheCount(), 1.0f),
        out_(Count(c.heads.heads) * 4, 8) {
    args_.dtype = c.dtype;
    args_.tokens = c.Tokens();
    args_.rows = static_cast<int64_t>(c.rows.size());
    args_.heads = c.heads.heads;
    args_.kv_heads = c.heads.kv_heads;
    args_.head_dim = c.heads.head_dim;
    args_.pairs = c.Pairs();
    args_.blocks = places_.blocks;
    args_.block_size = c.block_size;
    args_.max_blocks = c.TableSize();
    args_.q = q_.memory.As<float>();
    args_.k = k_.memory.As<float>();
    args_.v = v_.memory.As<float>();
    args_.cos = cos_.memory.As<float>();
    args_.sin = sin_.memory.As<float>();
    args_.q_norm = c.norms ? q_norm_.memory.data() : nullptr;
    args_.k_norm = c.norms ? k_norm_.memory.data() : nullptr;
    args_.epsilon = 1e-6f;
    args_.keys = keys_.memory.data();
    args_.values = values_.memory.data();
    args_.row_starts = places_.starts.As<int32_t>();
    args_.past_lengths = places_.lengths.As<int32_t>();
    args_.block_tables = places_.tables.As<int32_t>();
    args_.window = c.window;
    Select();
    args_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.heads.head_dim)));
    args_.out = out_.As<float>();
    args_.workspace_bytes = CachedAttentionWorkspaceBytes(args_);
    workspace_ = std::make_unique<Guarded>(args_.workspace_bytes, 256);
    args_.workspace = workspace_->data();
    std::memset(counters_.data(), 0, sizeof(uint32_t) * kAttentionCounters);
    args_.counters = counters_.As<uint32_t>();
  }
  ~CachedCall() {
    const uint32_t* counters = counters_.As<uint32_t>();
    EXPECT(std::all_of(counters, counters + kAttentionCounters, [](uint32_t count) { return count == 0; }),
           "counters that later calls begin with");
  }

  CachedAttentionArgs& args() { return args_; }
  Places& places() { return places_; }
  std::vector<float> Out() const {
    return std::vector<float>(out_.As<float>(), out_.As<float>() + Count(c_.heads.heads));
  }

  void LaunchAndCheck() {
    EXPECT(LaunchCachedAttention(args_, nullptr) == cudaSuccess, "launch");
    CheckCache(keys_, k_, c_.norms ? &k_norm_ : nullptr, true, "keys");
    CheckCache(values_, v_, nullptr, false, "values");
    CheckOutputs();
  }

  // Lists of blocks that queries see.
  int32_t* selected() const { return selected_->As<int32_t>(); }

  // Whether the cache is as it was made.
  bool CacheIsUntouched() const {
    for (size_t i = 0; i < keys_.values.size(); ++i) {
      if (Element(keys_, i) != keys_.values[i] || Element(values_, i) != values_.values[i]) return false;
    }
    return true;
  }

 private:
  // Blocks for every query that has more complete ones than are listed, but for some, which see all.
  void Select() {
    if (c_.selected == 0) return;
    selected_ = std::make_unique<Guarded>(size_t{4} * c_.Tokens() * c_.selected, 4);
    args_.selected = selected();
    args_.selected_blocks = c_.selected;
    args_.selected_block = c_.selected_block;
    for (int r = 0; r < static_cast<int>(c_.rows.size()); ++r) {
      for (int t = 0; t < c_.rows[r].tokens; ++t) {
        std::vector<int32_t> blocks((c_.rows[r].past + t + 1) / c_.selected_block);
        std::iota(blocks.begin(), blocks.end(), 0);
        std::shuffle(blocks.begin(), blocks.end(), testing::Random());
        const bool all = static_cast<int>(blocks.size()) <= c_.selected || RandomInt(0, 4) == 0;
        int32_t* list = selected() + int64_t{TokenOf(r, t)} * c_.selected;
        std::fill_n(list, c_.selected, -1);
        if (all) continue;
        std::copy_n(blocks.begin(), c_.selected, list);
        std::sort(list, list + c_.selected);
      }
    }
  }
  // Whether a query sees a position of its row.
  bool Sees(int token, int position, int key) const {
    if (c_.window > 0 && position - key >= c_.window) return false;
    if (c_.selected == 0) return true;
    const int32_t* list = selected() + int64_t{token} * c_.selected;
    const int block = key / c_.selected_block;
    return list[0] < 0 || block == (position + 1) / c_.selected_block ||
           std::find(list, list + c_.selected, block) != list + c_.selected;
  }
  int64_t Count(int heads) const { return int64_t{c_.Tokens()} * heads * c_.heads.head_dim; }
  int64_t CacheCount() const {
    return int64_t{places_.blocks} * c_.heads.kv_heads * c_.block_size * c_.heads.head_dim;
  }
  double Element(const Tensor& cache, int64_t index) const {
    return LoadAs(cache.memory.data(), c_.dtype, index);
  }
  int64_t CacheIndex(int row, int head, int position) const {
    const int block = places_.tables.As<int32_t>()[row * c_.TableSize() + position / c_.block_size];
    return ((int64_t{block} * c_.heads.kv_heads + head) * c_.block_size + position % c_.block_size) *
           c_.heads.head_dim;
  }
  int TokenOf(int row, int index) const { return places_.starts.As<int32_t>()[row] + index; }
  std::vector<double> Prepared(const Tensor& x, int heads, int token, int head, const Tensor* norm) const {
    const int dim = c_.heads.head_dim;
    return PrepareHead(x.values.data() + (int64_t{token} * heads + head) * dim, dim, norm, args_.epsilon,
                       cos_.values.data() + int64_t{token} * c_.Pairs(),
                       sin_.values.data() + int64_t{token} * c_.Pairs(), c_.Pairs());
  }

  void CheckCache(const Tensor& cache, const Tensor& x, const Tensor* norm, bool rotated, const char* what) {
    const int dim = c_.heads.head_dim;
    std::vector<double> expected(cache.values.begin(), cache.values.end());
    for (int r = 0; r < static_cast<int>(c_.rows.size()); ++r) {
      for (int t = 0; t < c_.rows[r].tokens; ++t) {
        for (int h = 0; h < c_.heads.kv_heads; ++h) {
          const int token = TokenOf(r, t);
          const float* from = x.values.data() + (int64_t{token} * c_.heads.kv_heads + h) * dim;
          const std::vector<double> head = rotated ? Prepared(x, c_.heads.kv_heads, token, h, norm)
                                                   : std::vector<double>(from, from + dim);
          std::copy(head.begin(), head.end(), expected.begin() + CacheIndex(r, h, c_.rows[r].past + t));
        }
      }
    }
    const double tolerance = c_.dtype == DType::kFloat32 ? 1e-6 : c_.dtype == DType::kFloat16 ? 5e-4 : 4e-3;
    ExpectClose(cache.memory.data(), c_.dtype, expected, tolerance, what);
  }

  // Against the cache as it is now, so that rounding on the way there does not count.
  void CheckOutputs() {
    std::vector<double> expected;
    for (int r = 0; r < static_cast<int>(c_.rows.size()); ++r) {
      for (int t = 0; t < c_.rows[r].tokens; ++t) {
        for (int h = 0; h < c_.heads.heads; ++h) {
          const int position = c_.rows[r].past + t;
          const int kv_head = h / (c_.heads.heads / c_.heads.kv_heads);
          const auto visible = [&](int j) { return Sees(TokenOf(r, t), position, j); };
          const auto at = [&](const Tensor& cache) {
            return [&, this](int j, size_t d) {
              return Element(cache, CacheIndex(r, kv_head, j) + static_cast<int64_t>(d));
            };
          };
          const std::vector<double> head =
              Attend(Prepared(q_, c_.heads.heads, TokenOf(r, t), h, c_.norms ? &q_norm_ : nullptr),
                     position + 1, args_.scale, visible, at(keys_), at(values_));
          expected.insert(expected.end(), head.begin(), head.end());
        }
      }
    }
    ExpectClose(out_.data(), DType::kFloat32, expected, AttentionTolerance(c_.dtype), "out");
  }

  CacheCase c_;
  Places places_;
  Tensor q_, k_, v_, cos_, sin_, q_norm_, k_norm_, keys_, values_;
  Guarded out_;
  Guarded counters_{sizeof(uint32_t) * kAttentionCounters, 4};
  std::unique_ptr<Guarded> workspace_, selected_;
  CachedAttentionArgs args_;
};

inline void RunCase(const CacheCase& c) {
  const int before = testing::failures;
  CachedCall(c).LaunchAndCheck();
  if (testing::failures == before) return;
  std::string rows;
  for (const Row& row : c.rows)
    rows += std::to_string(row.tokens) + " after " + std::to_string(row.past) + ", ";
  EXPECT(false, "dtype %d, %s%d / %d heads of %d, %d pairs, blocks of %d, window %d, norms %d",
         static_cast<int>(c.dtype), rows.c_str(), c.heads.heads, c.heads.kv_heads, c.heads.head_dim,
         c.Pairs(), c.block_size, c.window, c.norms);
}

// Rows of one token, of a few, of many and of none.
inline std::vector<Row> RandomRows(int count, int most_tokens, int most_past) {
  std::vector<Row> rows;
  for (int r = 0; r < count; ++r) {
    const int most[] = {most_tokens, 1, 5, 1};
    rows.push_back(
        {RandomInt(r == 0 ? 1 : 0, most[r % 4]), RandomInt(0, 3) == 0 ? 0 : RandomInt(0, most_past)});
  }
  return rows;
}

inline std::vector<Row> OneToken(int count, int most_past) {
  std::vector<Row> rows;
  for (int r = 0; r < count; ++r) rows.push_back({1, RandomInt(0, most_past)});
  rows.back().past = most_past;
  return rows;
}

}  // namespace testing
