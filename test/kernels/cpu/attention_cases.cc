// Attention over keys in blocks against loops in double precision.
#include <cmath>
#include <cstring>
#include <numeric>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/attention.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

// A row of a case: how many tokens and keys, and the position of its first token.
struct Row {
  int64_t tokens, keys, past;
};

// A row whose tokens are its last keys.
Row Causal(int64_t tokens, int64_t past) { return {tokens, past + tokens, past}; }

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

std::string Describe(const AttentionCase& c, size_t row) {
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

std::vector<AttentionRow> ToRows(const std::vector<Row>& rows) {
  std::vector<AttentionRow> result;
  int64_t first = 0;
  for (const Row& row : rows) {
    result.push_back({first, row.tokens, row.past, row.keys});
    first += row.tokens;
  }
  return result;
}

AttentionArgs ToArgs(const AttentionCase& c, const Pool& pool, const std::vector<AttentionRow>& rows,
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
void AttendToken(const AttentionCase& c, const AttentionArgs& args, const Pool& pool, size_t r, int64_t token,
                 int64_t head, std::vector<double>* out, std::vector<double>* magnitudes) {
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

void CheckAttention(const AttentionCase& c, Random& random, Workspace& workspace) {
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
std::vector<Row> MixedRows(int64_t count, int64_t keys, int64_t most_tokens, Random& random) {
  std::vector<Row> rows;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t own = r == 0 ? keys : random.Int(1, keys);
    const int64_t most[] = {1, 7, most_tokens, 0};
    const int64_t tokens = std::min(own, random.Int(std::min<int64_t>(1, most[r % 4]), most[r % 4]));
    rows.push_back(Causal(tokens, own - tokens));
  }
  return rows;
}

constexpr int64_t kBlockSizes[] = {16, 32, 64, 256};

// Every head size, group and type, over caches and without one.
void AttentionShapes() {
  Random random(20);
  Workspace workspace;
  for (const int64_t head_dim : {1, 2, 7, 8, 10, 12, 15, 16, 17, 31, 32, 33, 64, 72, 80, 128, 129, 256}) {
    for (int round = 0; round < 6; ++round) {
      const Precision precision = kAllPrecisions[round % 2];
      const DType dtype = kAllDTypes[round % 3];
      const int64_t kv_heads = random.Int(1, 3);
      const int64_t heads = kv_heads * random.Int(1, 3);
      const int threads = static_cast<int>(random.Int(1, 4));
      CheckAttention({MixedRows(random.Int(1, 4), random.Int(1, 90), 50, random),
                      {heads, kv_heads, head_dim, kBlockSizes[random.Int(0, 3)]},
                      dtype,
                      true,
                      0,
                      precision,
                      threads},
                     random, workspace);
    }
    const int64_t tokens = random.Int(1, 40);
    CheckAttention({{{tokens, 60, 0}, {tokens, 60, 0}},
                    {4, 2, head_dim, 0},
                    DType::kFloat32,
                    false,
                    0,
                    kAllPrecisions[tokens % 2],
                    2},
                   random, workspace);
  }
  for (int64_t tokens = 1; tokens <= 60; tokens += tokens < 13 ? 1 : 4) {
    CheckAttention(
        {{Causal(tokens, 0)}, {2, 1, 20, 16}, kAllDTypes[tokens % 3], true, 0, kAllPrecisions[tokens % 2], 2},
        random, workspace);
  }
}

// More keys than are prepared at a time, more queries than a block of them, and rows of different lengths.
void AttentionLong() {
  Random random(21);
  Workspace workspace;
  for (const Precision precision : kAllPrecisions) {
    for (const DType dtype : kAllDTypes) {
      CheckAttention(
          {{Causal(101, 929), Causal(1, 800), Causal(60, 0)}, {2, 1, 24, 64}, dtype, true, 0, precision, 3},
          random, workspace);
      CheckAttention({{Causal(97, 1003), Causal(90, 500)}, {2, 2, 16, 16}, dtype, true, 0, precision, 3},
                     random, workspace);
      CheckAttention({{Causal(600, 0)}, {1, 1, 8, 256}, dtype, true, 0, precision, 2}, random, workspace);
    }
    CheckAttention({{{101, 1030, 0}}, {2, 1, 24, 0}, DType::kFloat32, false, 0, precision, 3}, random,
                   workspace);
  }
}

void AttentionWindows() {
  Random random(22);
  Workspace workspace;
  for (const int64_t window : {1, 3, 64, 511, 512, 700}) {
    for (const Precision precision : kAllPrecisions) {
      const DType dtype = kAllDTypes[window % 3];
      CheckAttention({MixedRows(4, 1100, 55, random), {2, 1, 12, 32}, dtype, true, window, precision, 3},
                     random, workspace);
      CheckAttention({{Causal(55, 1045), Causal(1, 1099), Causal(50, 3)},
                      {4, 2, 12, 16},
                      dtype,
                      true,
                      window,
                      precision,
                      3},
                     random, workspace);
    }
  }
}

// Few queries, read in place: chunks of keys, masks and windows that cut them.
void AttentionFewTokens() {
  Random random(28);
  Workspace workspace;
  for (const int64_t tokens : {2, 5, 16}) {
    for (const int64_t window : {0, 2, 520}) {
      CheckAttention({{Causal(tokens, 1100 - tokens), Causal(tokens, 300)},
                      {4, 2, 20, 64},
                      kAllDTypes[tokens % 3],
                      true,
                      window,
                      Precision::kBFloat16,
                      3},
                     random, workspace);
    }
    CheckAttention({{{tokens, 530, 0}, {tokens, 530, 0}},
                    {2, 2, 20, 0},
                    DType::kFloat32,
                    false,
                    0,
                    Precision::kFloat32,
                    2},
                   random, workspace);
  }
}

// One token a row: chunks of keys, many heads of one kv head, rows of different lengths.
void AttentionOneToken() {
  Random random(23);
  Workspace workspace;
  for (const int64_t keys : {1, 2, 17, 511, 512, 513, 1700}) {
    for (const int64_t group : {1, 2, 5, 8, 13}) {
      CheckAttention({{Causal(1, keys - 1), Causal(1, random.Int(0, keys)), Causal(1, random.Int(0, keys))},
                      {2 * group, 2, group == 8 ? 128 : 10, kBlockSizes[keys % 4]},
                      kAllDTypes[(keys + group) % 3],
                      true,
                      0,
                      kAllPrecisions[keys % 2],
                      3},
                     random, workspace);
    }
  }
}

// Rows that begin with the same blocks.
void AttentionSharedPrefix() {
  Random random(29);
  Workspace workspace;
  for (const DType dtype : kAllDTypes) {
    AttentionCase c = {{Causal(1, 160), Causal(40, 128), Causal(3, 140), Causal(200, 128)},
                       {4, 1, 32, 64},
                       dtype,
                       true,
                       0,
                       Precision::kFloat32,
                       3};
    c.shared_blocks = 2;
    CheckAttention(c, random, workspace);
    c.window = 100;
    CheckAttention(c, random, workspace);
  }
}

// Queries that see nothing get zeros; past positions beyond the keys see all of them.
void AttentionEdges() {
  Random random(24);
  Workspace workspace;
  for (const int64_t tokens : {1, 7, 40}) {
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t block : {0, 16}) {
        const Shape shape = {2, 1, 9, block};
        const DType dtype = block == 0 ? DType::kFloat32 : kAllDTypes[tokens % 3];
        CheckAttention({{{tokens, 0, 0}, {tokens, 5, 0}, {0, 5, 0}, {tokens, 5, 9}, {tokens, 0, 3}},
                        shape,
                        dtype,
                        true,
                        0,
                        precision,
                        2},
                       random, workspace);
        CheckAttention({{{tokens, 5, 9}, {tokens, 5, 3}}, shape, dtype, true, 4, precision, 2}, random,
                       workspace);
        CheckAttention({{{tokens, 0, 0}, {tokens, 3, 0}}, shape, dtype, false, 0, precision, 2}, random,
                       workspace);
        CheckAttention({{{tokens, 0, 0}}, shape, dtype, false, 0, precision, 2}, random, workspace);
      }
    }
  }
  TestPool pool(2);
  Output out(1);
  const AttentionCase none = {{}, {1, 1, 8, 16}, DType::kFloat32, true, 0, Precision::kFloat32, 2};
  Attention(ToArgs(none, Pool(random, none), {}, nullptr, out.data()), workspace, pool);
  if (!std::isnan(out[0])) Fail("Attention wrote an output although there were no rows");
}

// Little room for prepared keys: in parts, with the sums of all queries kept in between.
void AttentionParts() {
  Random random(25);
  Workspace workspace;
  for (const Precision precision : kAllPrecisions) {
    for (const int64_t blocks : {0, 1, 2, 3}) {
      const int64_t bytes = blocks * 2 * 512 * 16 * 4 * 2;
      const DType dtype = kAllDTypes[blocks % 3];
      CheckAttention(
          {{Causal(60, 1640), Causal(60, 900)}, {4, 2, 16, 64}, dtype, true, 0, precision, 3, bytes}, random,
          workspace);
      CheckAttention({{Causal(50, 1150)}, {2, 2, 16, 32}, dtype, true, 900, precision, 3, bytes}, random,
                     workspace);
    }
  }
  CheckAttention({{{2300, 2300, 0}}, {1, 1, 4, 256}, DType::kFloat32, true, 30, Precision::kFloat32, 2, 0},
                 random, workspace);
}

std::vector<float> Attend(const AttentionCase& c, const Pool& pool, const std::vector<AttentionRow>& rows,
                          const std::vector<float>& q, Workspace& workspace) {
  std::vector<float> out(q.size(), std::nanf(""));
  TestPool threads(c.threads);
  Attention(ToArgs(c, pool, rows, q.data(), out.data()), workspace, threads);
  return out;
}

bool SameBits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

// The same bits whatever the number of threads, the other rows and the room for prepared keys.
void AttentionBits() {
  Random random(26);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const Precision precision : kAllPrecisions) {
      for (const int64_t window : {0, 77}) {
        AttentionCase c = {{Causal(100, 1400), Causal(1, 1299), Causal(9, 500), Causal(130, 0), Causal(1, 0)},
                           {4, 2, 40, 64},
                           kAllDTypes[random.Int(0, 2)],
                           true,
                           window,
                           precision,
                           1};
        const std::vector<float> q = random.Normals(c.Tokens() * 4 * 40);
        const Pool pool(random, c);
        const std::vector<AttentionRow> rows = ToRows(c.rows);
        const std::vector<float> first = Attend(c, pool, rows, q, workspace);
        for (const int threads : {2, 3, 7, 16, 64}) {
          c.threads = threads;
          c.prepared_bytes = threads << 17;
          const std::vector<float> again = Attend(c, pool, rows, q, workspace);
          if (!SameBits(first.data(), again.data(), static_cast<int64_t>(q.size()))) {
            Fail("%s: other bits on %d threads than on one", Describe(c, 0).c_str(), threads);
          }
        }
        for (size_t r = 0; r < rows.size(); ++r) {
          std::vector<AttentionRow> alone = rows;
          for (size_t other = 0; other < rows.size(); ++other) alone[other].tokens *= other == r ? 1 : 0;
          const std::vector<float> out = Attend(c, pool, alone, q, workspace);
          const int64_t at = rows[r].first * 4 * 40;
          if (!SameBits(first.data() + at, out.data() + at, rows[r].tokens * 4 * 40)) {
            Fail("%s: other bits than beside other rows", Describe(c, r).c_str());
          }
        }
      }
    }
  }
}

void AttentionScratch() {
  SelectIsa(Isas()[0]);
  const int64_t tokens = kStreamedQueries + 1;
  for (const int64_t kv_heads : {1, 4}) {
    Workspace workspace;
    TestPool pool(2);
    const int64_t keys = 80000 / kv_heads;
    Random random(27);
    const std::vector<float> q = random.Normals(tokens * kv_heads * 128);
    const std::vector<float> kv(static_cast<size_t>(keys * kv_heads * 128), 0.25f);
    const AttentionRow row = {0, tokens, keys - tokens, keys};
    Output out(static_cast<int64_t>(q.size()));
    Attention({q.data(),
               kv.data(),
               kv.data(),
               DType::kFloat32,
               {keys, keys * kv_heads * 128, 128, kv_heads * 128, nullptr, 0},
               out.data(),
               &row,
               1,
               kv_heads,
               kv_heads,
               128,
               true,
               0,
               0.1f,
               Precision::kFloat32},
              workspace, pool);
    if (workspace.capacity() > (32u << 20))
      Fail("attention's scratch grew to %zu bytes", workspace.capacity());
    for (int64_t i = 0; i < out.size(); ++i) {
      if (!(std::fabs(out[i] - 0.25f) <= 1e-5f)) {
        Fail("a mean of equal values over %lld keys is %g", static_cast<long long>(keys),
             static_cast<double>(out[i]));
        break;
      }
    }
  }
}

// Values go to their places and nowhere else, rounded to the cache's type, rotated or as they are.
void CacheAppends() {
  Random random(30);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const DType dtype : kAllDTypes) {
      for (const int64_t tokens : {1, 9, 300}) {
        const int64_t heads = 3, dim = 22, pairs = random.Int(0, 11), positions = tokens + 5,
                      size = DTypeSize(dtype);
        const std::vector<float> x = random.Normals(tokens * heads * dim), norm = random.Normals(dim);
        const std::vector<float> cos = random.Normals(tokens * pairs), sin = random.Normals(tokens * pairs);
        const HeadRotation rotation = {norm.data(), 0.01f, cos.data(), sin.data(), pairs};
        // [heads, positions, dim], filled from its end.
        std::vector<int64_t> places;
        for (int64_t t = 0; t < tokens; ++t) places.push_back((positions - 1 - t) * dim);
        std::vector<float> rotated(x.size());
        TestPool pool(3);
        Rotary({x.data(), rotated.data(), tokens, heads, dim, rotation}, pool);
        for (const bool rotates : {false, true}) {
          std::vector<char> cache(static_cast<size_t>(heads * positions * dim * size), 0x55);
          const std::vector<char> before(static_cast<size_t>(size), 0x55);
          CacheAppend({x.data(), cache.data(), dtype, places.data(), positions * dim, tokens, heads, dim,
                       rotates ? &rotation : nullptr},
                      workspace, pool);
          for (int64_t i = 0; i < heads * positions * dim; ++i) {
            const int64_t token = positions - 1 - i / dim % positions, head = i / dim / positions;
            std::vector<char> expected = before;
            if (token < tokens) {
              const std::vector<float>& from = rotates ? rotated : x;
              Kernels().narrow[DTypeIndex(dtype)](
                  &from[static_cast<size_t>((token * heads + head) * dim + i % dim)], 1, expected.data());
            }
            if (std::memcmp(expected.data(), cache.data() + i * size, static_cast<size_t>(size)) == 0)
              continue;
            Fail("[%s] CacheAppend, dtype %d, %lld tokens, rotates %d: value %lld", isa,
                 static_cast<int>(dtype), static_cast<long long>(tokens), rotates, static_cast<long long>(i));
            break;
          }
        }
      }
    }
  }
}

}  // namespace

std::vector<Group> AttentionGroups() {
  return {
      {"attention: head sizes, groups, types and blocks", AttentionShapes},
      {"attention: more keys and queries than a block", AttentionLong},
      {"attention: sliding windows", AttentionWindows},
      {"attention: one token a row", AttentionOneToken},
      {"attention: few tokens", AttentionFewTokens},
      {"attention: rows that share blocks", AttentionSharedPrefix},
      {"attention: queries without keys, no rows", AttentionEdges},
      {"attention: keys prepared in parts", AttentionParts},
      {"attention: same bits on 1 to 64 threads, alone and beside others", AttentionBits},
      {"attention: long inputs need bounded scratch", AttentionScratch},
      {"caches are appended to in place", CacheAppends},
  };
}

}  // namespace switchyard::cpu
