// Attention over keys in blocks, in double precision.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/attention.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"
namespace switchyard::cpu {

// A row of a case: how many tokens and keys, and the position of its first token.
struct Row {
  int64_t tokens, keys, past;
};

// A row whose tokens are its last keys.
inline Row Causal(int64_t tokens, int64_t past) { return {tokens, past + tokens, past}; }

// Keys of a cache of blocks, [blocks, heads, block_size, head_dim]; or of no cache, [rows, keys, heads,
// head_dim].
struct Shape {
  int64_t heads, kv_heads, head_dim;
  int64_t block_size;  // 0: no cache
};

struct AttentionCase {
  std::vector<Row> rows;
  Shape shape;
  DType dtype;
  bool causal;
  int64_t window;
  Precision precision;
  int threads;
  int64_t prepared_bytes = 48 << 20;
  int64_t shared_blocks = 0;  // that all rows begin with

  int64_t Tokens() const {
    return std::accumulate(rows.begin(), rows.end(), int64_t{0},
                           [](int64_t sum, const Row& row) { return sum + row.tokens; });
  }
  // Few queries are computed in fp32 whatever the precision.
  bool Rounds(const Row& row) const {
    return precision == Precision::kBFloat16 && row.tokens > 1 &&
           row.tokens * shape.heads / shape.kv_heads > kStreamedQueries;
  }
};

inline std::string Describe(const AttentionCase& c, size_t row) {
  char text[300];
  const auto number = [](int64_t value) { return static_cast<long long>(value); };
  std::snprintf(
      text, sizeof(text),
      "Attention [%s] row %zu of %zu: %lld tokens, %lld keys, past %lld; %lld/%lld heads of %lld, dtype "
      "%d, blocks of %lld, causal %d, window %lld, precision %d, %d threads",
      IsaName(), row, c.rows.size(), number(c.rows[row].tokens), number(c.rows[row].keys),
      number(c.rows[row].past), number(c.shape.heads), number(c.shape.kv_heads), number(c.shape.head_dim),
      static_cast<int>(c.dtype), number(c.shape.block_size), c.causal, number(c.window),
      static_cast<int>(c.precision), c.threads);
  return text;
}

// Keys or values of the dtype, NaN wherever no row has a key.
class Pool {
 public:
  Pool(Random& random, const AttentionCase& c) : shape_(c.shape), dtype_(c.dtype) {
    for (const Row& row : c.rows) most_keys_ = std::max(most_keys_, row.keys);
    if (shape_.block_size > 0) MakeTables(random, c);
    for (std::vector<char>* bytes : {&keys_, &values_}) {
      bytes->assign(static_cast<size_t>(Elements(c) * DTypeSize(dtype_)), '\xff');
      for (size_t r = 0; r < c.rows.size(); ++r) {
        for (int64_t j = 0; j < c.rows[r].keys; ++j) {
          for (int64_t h = 0; h < shape_.kv_heads; ++h) {
            for (int64_t d = 0; d < shape_.head_dim; ++d) Put(bytes, At(r, h, j) + d, random.Normal());
          }
        }
      }
    }
  }

  BlockLayout Layout() const {
    const int64_t head = shape_.block_size * shape_.head_dim;
    const int64_t token = shape_.kv_heads * shape_.head_dim;
    if (shape_.block_size > 0) {
      return {shape_.block_size, shape_.kv_heads * head, head, shape_.head_dim, tables_.data(), table_size_};
    }
    return {std::max<int64_t>(1, most_keys_), most_keys_ * token, shape_.head_dim, token, nullptr, 0};
  }
  const char* keys() const { return keys_.data(); }
  const char* values() const { return values_.data(); }
  float Key(size_t row, int64_t head, int64_t position, int64_t d) const {
    return Get(keys_, At(row, head, position) + d);
  }
  float Value(size_t row, int64_t head, int64_t position, int64_t d) const {
    return Get(values_, At(row, head, position) + d);
  }
  // The keys that a row shares with the first are those of the first one's blocks.
  int64_t At(size_t row, int64_t head, int64_t position) const {
    const int64_t r = static_cast<int64_t>(row);
    if (shape_.block_size == 0) {
      return ((r * most_keys_ + position) * shape_.kv_heads + head) * shape_.head_dim;
    }
    const int64_t block = tables_[static_cast<size_t>(r * table_size_ + position / shape_.block_size)];
    return ((block * shape_.kv_heads + head) * shape_.block_size + position % shape_.block_size) *
           shape_.head_dim;
  }

 private:
  int64_t Elements(const AttentionCase& c) const {
    const int64_t positions = shape_.block_size > 0 ? blocks_ * shape_.block_size
                                                    : static_cast<int64_t>(c.rows.size()) * most_keys_;
    return positions * shape_.kv_heads * shape_.head_dim;
  }
  // Blocks in random order; what a row does not need is -1.
  void MakeTables(Random& random, const AttentionCase& c) {
    table_size_ = (most_keys_ + shape_.block_size - 1) / shape_.block_size + random.Int(0, 2);
    std::vector<int32_t> order(c.rows.size() * static_cast<size_t>(table_size_) + 3);
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size() - 1; i > 0; --i) {
      std::swap(order[i], order[static_cast<size_t>(random.Int(0, static_cast<int64_t>(i)))]);
    }
    blocks_ = static_cast<int64_t>(order.size());
    for (size_t r = 0; r < c.rows.size(); ++r) {
      for (int64_t i = 0; i < table_size_; ++i) {
        const bool needed = i * shape_.block_size < c.rows[r].keys;
        const size_t from = i < c.shared_blocks ? 0 : r;
        tables_.push_back(needed ? order[from * static_cast<size_t>(table_size_) + static_cast<size_t>(i)]
                                 : -1);
      }
    }
  }
  void Put(std::vector<char>* bytes, int64_t index, float value) const {
    char* at = bytes->data() + index * DTypeSize(dtype_);
    const uint16_t bits = dtype_ == DType::kBFloat16 ? FloatToBf16(value) : FloatToFp16(value);
    if (dtype_ == DType::kFloat32) {
      std::memcpy(at, &value, sizeof(value));
    } else {
      std::memcpy(at, &bits, sizeof(bits));
    }
  }
  float Get(const std::vector<char>& bytes, int64_t index) const {
    return LoadElement(bytes.data() + index * DTypeSize(dtype_), dtype_);
  }

  Shape shape_;
  DType dtype_;
  int64_t most_keys_ = 0, table_size_ = 0, blocks_ = 0;
  std::vector<int32_t> tables_;
  std::vector<char> keys_, values_;
};

inline std::vector<AttentionRow> ToRows(const std::vector<Row>& rows) {
  std::vector<AttentionRow> result;
  int64_t first = 0;
  for (const Row& row : rows) {
    result.push_back({first, row.tokens, row.past, row.keys});
    first += row.tokens;
  }
  return result;
}

inline AttentionArgs ToArgs(const AttentionCase& c, const Pool& pool, const std::vector<AttentionRow>& rows,
                            const float* q, float* out) {
  return {q,
          pool.keys(),
          pool.values(),
          c.dtype,
          pool.Layout(),
          out,
          rows.data(),
          static_cast<int64_t>(rows.size()),
          c.shape.heads,
          c.shape.kv_heads,
          c.shape.head_dim,
          c.causal,
          c.window,
          1.3f / std::sqrt(static_cast<float>(c.shape.head_dim)),
          c.precision,
          c.prepared_bytes};
}

// The definition in double precision. `magnitudes` gets the sums of absolute terms.
inline void AttendToken(const AttentionCase& c, const AttentionArgs& args, const Pool& pool, size_t r,
                        int64_t token, int64_t head, std::vector<double>* out,
                        std::vector<double>* magnitudes) {
  const Row& row = c.rows[r];
  const int64_t dim = c.shape.head_dim;
  const int64_t kv_head = head / (c.shape.heads / c.shape.kv_heads);
  const auto rounded = [&](float raw) -> double { return c.Rounds(row) ? RoundToBf16(raw) : raw; };
  const float* q = args.q + ((args.rows[r].first + token) * c.shape.heads + head) * dim;
  const int64_t end = c.causal ? std::min(row.keys, row.past + token + 1) : row.keys;
  const int64_t begin = c.causal && c.window > 0 ? std::max<int64_t>(0, row.past + token + 1 - c.window) : 0;
  std::vector<double> scores;
  double largest = -1e300;
  for (int64_t j = begin; j < end; ++j) {
    double dot = 0.0;
    for (int64_t d = 0; d < dim; ++d) dot += rounded(q[d]) * rounded(pool.Key(r, kv_head, j, d));
    scores.push_back(dot * static_cast<double>(args.scale));
    largest = std::max(largest, scores.back());
  }
  double total = 0.0;
  for (double& score : scores) total += score = std::exp(score - largest);
  out->assign(static_cast<size_t>(dim), 0.0);
  magnitudes->assign(static_cast<size_t>(dim), 0.0);
  for (int64_t j = begin; j < end; ++j) {
    const double weight = scores[static_cast<size_t>(j - begin)] / total;
    for (int64_t d = 0; d < dim; ++d) {
      const double term = weight * rounded(pool.Value(r, kv_head, j, d));
      (*out)[static_cast<size_t>(d)] += term;
      (*magnitudes)[static_cast<size_t>(d)] += std::fabs(term);
    }
  }
}

inline void CheckAttention(const AttentionCase& c, Random& random, Workspace& workspace) {
  const int64_t dim = c.shape.head_dim;
  const std::vector<float> q = random.Normals(c.Tokens() * c.shape.heads * dim);
  const Pool pool(random, c);
  const std::vector<AttentionRow> rows = ToRows(c.rows);
  TestPool threads(c.threads);
  std::vector<Output> outputs;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    Output& out = outputs.emplace_back(static_cast<int64_t>(q.size()));
    Attention(ToArgs(c, pool, rows, q.data(), out.data()), workspace, threads);
    out.CheckGuards(Describe(c, 0));
  }
  const AttentionArgs args = ToArgs(c, pool, rows, q.data(), nullptr);
  std::vector<double> expected, magnitudes;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (int64_t i = 0; i < rows[r].tokens * c.shape.heads; ++i) {
      AttendToken(c, args, pool, r, i / c.shape.heads, i % c.shape.heads, &expected, &magnitudes);
      const int64_t at = (rows[r].first * c.shape.heads + i) * dim;
      for (size_t isa = 0; isa < outputs.size(); ++isa) {
        for (int64_t d = 0; d < dim; ++d) {
          const double actual = outputs[isa][at + d];
          const double wanted = expected[static_cast<size_t>(d)];
          const double bound =
              (c.Rounds(c.rows[r]) ? 4e-3 : 4e-6) * magnitudes[static_cast<size_t>(d)] + 1e-7;
          if (std::fabs(actual - wanted) <= bound) continue;
          SelectIsa(Isas()[isa]);
          Fail("%s: token %lld, head %lld, value %lld is %g, expected %g", Describe(c, r).c_str(),
               static_cast<long long>(i / c.shape.heads), static_cast<long long>(i % c.shape.heads),
               static_cast<long long>(d), actual, wanted);
        }
      }
    }
  }
}

// Rows of up to so many keys, of which the last are new tokens: one, a few or many.
inline std::vector<Row> MixedRows(int64_t count, int64_t keys, int64_t most_tokens, Random& random) {
  std::vector<Row> rows;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t own = r == 0 ? keys : random.Int(1, keys);
    const int64_t most[] = {1, 7, most_tokens, 0};
    const int64_t tokens = std::min(own, random.Int(std::min<int64_t>(1, most[r % 4]), most[r % 4]));
    rows.push_back(Causal(tokens, own - tokens));
  }
  return rows;
}

inline constexpr int64_t kBlockSizes[] = {16, 32, 64, 256};

}  // namespace switchyard::cpu
