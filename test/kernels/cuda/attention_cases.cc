// Cases for the launchers of attention.
#include <climits>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>

#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::RandomFloat;
using testing::RandomInt;
using testing::Tensor;

struct Heads {
  int heads, kv_heads, head_dim;
};

double AttentionTolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 4e-6;
  return dtype == DType::kFloat16 ? 2e-3 : 1.2e-2;
}

// A head as it enters the products: normalised where there is a weight, and the halves of its first 2 * pairs
// values rotated.
std::vector<double> PrepareHead(const float* x, int head_dim, const Tensor* norm, double epsilon,
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
  int pairs = -1;         // -1: half a head
  int shared_blocks = 0;  // that all rows begin with
  int table_size = 0;     // 0: a little more than the longest row needs

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
    args_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.heads.head_dim)));
    args_.out = out_.As<float>();
    args_.workspace_bytes = CachedAttentionWorkspaceBytes(args_);
    workspace_ = std::make_unique<Guarded>(args_.workspace_bytes, 256);
    args_.workspace = workspace_->data();
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

  // Whether the cache is as it was made.
  bool CacheIsUntouched() const {
    for (size_t i = 0; i < keys_.values.size(); ++i) {
      if (Element(keys_, i) != keys_.values[i] || Element(values_, i) != values_.values[i]) return false;
    }
    return true;
  }

 private:
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
          const auto visible = [&](int j) { return c_.window == 0 || position - j < c_.window; };
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
  std::unique_ptr<Guarded> workspace_;
  CachedAttentionArgs args_;
};

void RunCase(const CacheCase& c) {
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
std::vector<Row> RandomRows(int count, int most_tokens, int most_past) {
  std::vector<Row> rows;
  for (int r = 0; r < count; ++r) {
    const int most[] = {most_tokens, 1, 5, 1};
    rows.push_back(
        {RandomInt(r == 0 ? 1 : 0, most[r % 4]), RandomInt(0, 3) == 0 ? 0 : RandomInt(0, most_past)});
  }
  return rows;
}

std::vector<Row> OneToken(int count, int most_past) {
  std::vector<Row> rows;
  for (int r = 0; r < count; ++r) rows.push_back({1, RandomInt(0, most_past)});
  rows.back().past = most_past;
  return rows;
}

constexpr Heads kHeads[] = {{4, 4, 64}, {6, 2, 128}, {4, 2, 80}, {3, 1, 72},
                            {2, 2, 6},  {2, 1, 256}, {5, 1, 40}, {3, 1, 7}};
constexpr int kBlockSizes[] = {16, 32, 64, 256};

}  // namespace

void CachedAttentionMatchesTheReference() {
  emulator::bank_conflicts = 0;
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int most : {1, 2, 37, 70}) {
        const std::vector<Row> rows = most == 1 ? OneToken(RandomInt(1, 3), 400)
                                                : RandomRows(RandomInt(1, 4), most, most == 2 ? 400 : 60);
        CacheCase c = {dtype,
                       rows,
                       heads,
                       kBlockSizes[RandomInt(0, 3)],
                       RandomInt(0, 2) == 0 ? RandomInt(1, 100) : 0,
                       RandomInt(0, 1) == 0};
        if (RandomInt(0, 2) == 0) c.pairs = RandomInt(0, heads.head_dim / 2);
        RunCase(c);
      }
    }
  }
  // More query heads to a key head than a block holds; many rows, whose keys are not split; one position.
  RunCase({DType::kBFloat16, {{1, 299}}, {20, 1, 64}, 64, 0, true});
  RunCase({DType::kFloat16, OneToken(150, 39), {4, 4, 64}, 16, 7, false});
  RunCase({DType::kFloat32, OneToken(150, 39), {4, 4, 10}, 16, 0, true});
  RunCase({DType::kBFloat16, {{1, 0}}, {2, 1, 128}, 16, 0, true});
  RunCase({DType::kBFloat16, {{1, 8999}}, {2, 1, 128}, 64, 0, true});
  // A window far into the keys, whose first ones share a group with keys outside of it.
  RunCase({DType::kBFloat16, {{1, 700}, {1, 90}}, {8, 2, 64}, 32, 75, true});
  // A few tokens after many: their keys are split too. Beside them rows with one token, split in their own
  // way.
  RunCase({DType::kBFloat16, {{5, 990}}, {4, 2, 64}, 64, 0, true});
  RunCase({DType::kFloat16, {{66, 400}, {1, 433}, {1, 7}}, {2, 1, 128}, 16, 70, true});
  RunCase({DType::kFloat32, {{5, 490}, {1, 495}, {5, 490}}, {4, 2, 64}, 128, 300, true});
  RunCase({DType::kBFloat16, {{1, 600}, {30, 500}, {0, 20}, {1, 0}, {64, 64}}, {4, 2, 64}, 64, 0, true});
  EXPECT(emulator::bank_conflicts == 0, "%lld matrix loads met bank conflicts",
         static_cast<long long>(emulator::bank_conflicts));
}

void RowsShareBlocks() {
  for (const DType dtype : kTypes) {
    CacheCase c = {dtype, {{1, 200}, {20, 128}, {3, 130}, {1, 128}}, {4, 2, 64}, 64, 0, true};
    c.shared_blocks = 2;
    RunCase(c);
    c.rows = {{1, 200}, {1, 128}, {1, 131}};
    RunCase(c);
  }
}

// The same call with other rows in the same memory, as a captured graph replays it, and the same bits when
// repeated.
void RowsAreReadFromTheDevice() {
  for (const DType dtype : kTypes) {
    for (const int rows : {2, 200}) {  // with and without a split
      CacheCase c = {dtype, OneToken(rows, 9), {4, 2, 32}, 64, 0, false};
      c.rows[0].past = c.rows[1].past = 699;
      CachedCall call(c);
      std::vector<std::vector<float>> outs;
      for (const int position : {5, 640, 63, 64, 5}) {
        for (int r = 0; r < 2; ++r)
          call.places().lengths.As<int32_t>()[r] = std::min(position, c.rows[r].past);
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "position %d", position);
        outs.push_back(call.Out());
      }
      EXPECT(outs.front() == outs.back(), "another result for the same position");
      EXPECT(outs[1] != outs[0] && outs[2] != outs[3], "one result for different positions");
    }
    // As many tokens and rows, shared out in another way: two of one row, none of another.
    CacheCase even = {dtype, {{1, 40}, {1, 30}, {1, 20}}, {4, 2, 64}, 16, 0, true};
    RunCase(even);
    even.rows = {{0, 40}, {2, 30}, {1, 20}};
    RunCase(even);
    even.rows = {{3, 40}, {0, 0}, {0, 20}};
    RunCase(even);
  }
}

// Rows that do not fit, rows that make no sense and blocks that do not exist.
void PlacesOutsideTheCache() {
  for (const DType dtype : kTypes) {
    for (const int count : {1, 400}) {  // with and without a split
      for (const int position : {-1, 80, 81, INT_MAX, INT_MIN}) {
        CacheCase c = {dtype, std::vector<Row>(count, {1, 0}), {2, 1, 8}, 16, 0, true};
        c.table_size = 5;
        CachedCall call(c);
        for (int r = 0; r < count; ++r) call.places().lengths.As<int32_t>()[r] = position;
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
        EXPECT(call.CacheIsUntouched(), "position %d changed the cache", position);
        const std::vector<float> out = call.Out();
        EXPECT(std::all_of(out.begin(), out.end(), [](float value) { return value == 0.0f; }), "position %d",
               position);
      }
    }
    for (const std::vector<Row>& rows : {std::vector<Row>{{1, 20}, {1, 3}}, {{40, 20}, {1, 3}, {7, 100}}}) {
      const CacheCase c = {dtype, rows, {2, 1, 64}, 16, 0, true};
      for (const int32_t block : {-1, 1 << 30, INT_MIN, INT_MAX}) {
        CachedCall call(c);
        std::fill_n(call.places().tables.As<int32_t>(), c.rows.size() * c.TableSize(), block);
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
        EXPECT(call.CacheIsUntouched(), "block %d changed the cache", block);
        const std::vector<float> out = call.Out();
        EXPECT(std::all_of(out.begin(), out.end(), [](float value) { return value == 0.0f; }), "block %d",
               block);
      }
      for (const std::vector<int32_t>& starts :
           {std::vector<int32_t>{5, 1, INT_MAX, 0}, {INT_MIN, -3, -2, -1}, {INT_MAX, INT_MAX, 0, 0}}) {
        CachedCall call(c);
        std::copy_n(starts.begin(), c.rows.size() + 1, call.places().starts.As<int32_t>());
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
      }
    }
  }
}

// As many heads as make blocks of 128 queries pay.
void AttentionInWideBlocks() {
  RunCase({DType::kBFloat16, {{129, 0}}, {128, 1, 6 * 8}, 64, 3, false});
  RunCase({DType::kFloat16, {{1, 9}, {130, 3}, {70, 0}}, {128, 4, 64}, 32, 0, true});
}

void AttentionMatchesTheReference() {
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      const int batch = RandomInt(1, 2), queries = RandomInt(1, 80), keys = RandomInt(1, 100);
      const int dim = heads.head_dim;
      const Tensor q(DType::kFloat32, int64_t{batch} * queries * heads.heads * dim, 2.0f, 4);
      const Tensor k(DType::kFloat32, int64_t{batch} * keys * heads.kv_heads * dim, 1.0f, 4);
      const Tensor v(DType::kFloat32, int64_t{batch} * keys * heads.kv_heads * dim, 1.0f, 4);
      const Guarded out(q.values.size() * 4, 8);
      AttentionArgs args = {dtype,
                            batch,
                            queries,
                            keys,
                            heads.heads,
                            heads.kv_heads,
                            dim,
                            q.memory.As<float>(),
                            k.memory.As<float>(),
                            v.memory.As<float>(),
                            0.3f,
                            out.As<float>()};
      args.workspace_bytes = AttentionWorkspaceBytes(args);
      const Guarded workspace(args.workspace_bytes, 256);
      args.workspace = workspace.data();
      EXPECT(LaunchAttention(args, nullptr) == cudaSuccess, "launch");
      std::vector<double> expected;
      for (int i = 0; i < batch * queries * heads.heads; ++i) {
        const int row = i / heads.heads / queries;
        const int kv_head = i % heads.heads / (heads.heads / heads.kv_heads);
        struct At {
          const float* first;
          int stride;
          double operator()(int j, size_t d) const {
            return first[int64_t{j} * stride + static_cast<int>(d)];
          }
        };
        const int64_t first = (int64_t{row} * keys * heads.kv_heads + kv_head) * dim;
        const int stride = heads.kv_heads * dim;
        const std::vector<double> head = Attend(
            std::vector<double>(q.values.begin() + i * dim, q.values.begin() + (i + 1) * dim), keys,
            double{0.3f}, [](int) { return true; }, At{k.values.data() + first, stride},
            At{v.values.data() + first, stride});
        expected.insert(expected.end(), head.begin(), head.end());
      }
      ExpectClose(out.data(), DType::kFloat32, expected, 3 * AttentionTolerance(dtype), "out");
    }
  }
}

void AttentionRefusesSizes() {
  CacheCase c = {DType::kBFloat16, {{3, 13}}, {2, 1, 8}, 16, 0, false};
  c.table_size = 1;
  CachedCall call(c);
  const auto refuses = [&](auto change, const char* what) {
    CachedAttentionArgs args = call.args();
    change(args);
    EXPECT(LaunchCachedAttention(args, nullptr) == cudaErrorInvalidValue, "%s", what);
  };
  EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "the block is filled to its end");
  refuses([](auto& args) { args.rows = 0; }, "tokens without rows");
  refuses([](auto& args) { args.past_lengths = nullptr; }, "rows without lengths");
  refuses([](auto& args) { args.block_size = 8; }, "blocks that are too small");
  refuses([](auto& args) { args.block_size = 48; }, "blocks of no power of two");
  refuses([](auto& args) { args.max_blocks = INT_MAX; }, "more positions than can be counted");
  refuses([](auto& args) { args.pairs = 5; }, "more rotated values than a head has");
  refuses([](auto& args) { args.head_dim = 258; }, "a head that is too large");
  refuses([](auto& args) { args.kv_heads = 3; }, "heads that cannot be shared out");
  refuses([](auto& args) { args.window = -1; }, "a negative window");
  refuses([](auto& args) { --args.workspace_bytes; }, "a workspace that is too small");
}
