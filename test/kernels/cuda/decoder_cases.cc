// Cases for the launchers that make up the rest of a decoder: attention, candidates, counters and copies.
#include <climits>
#include <cstdint>
#include <limits>
#include <numeric>

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

// A head as it enters the products: normalised where there is a weight, and rotated.
std::vector<double> PrepareHead(const float* x, int head_dim, const Tensor* norm, double epsilon,
                                const float* cos, const float* sin) {
  std::vector<double> head(x, x + head_dim);
  if (norm != nullptr) {
    double squares = 0.0;
    for (const double value : head) squares += value * value;
    const double factor = 1.0 / std::sqrt(squares / head_dim + epsilon);
    for (int d = 0; d < head_dim; ++d) head[d] *= factor * norm->values[d];
  }
  const int half = head_dim / 2;
  for (int d = 0; d < half; ++d) {
    const double low = head[d], high = head[d + half];
    head[d] = low * cos[d] - high * sin[d];
    head[d + half] = high * cos[d] + low * sin[d];
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

struct CacheCase {
  DType dtype;
  int batch, tokens;
  Heads heads;
  int capacity;
  std::vector<int> starts;  // of every row; equal ones for several tokens
  bool causal;
  int window;
  bool norms;
};

// Everything a call works on, with the cache as it was before.
class CachedCall {
 public:
  explicit CachedCall(const CacheCase& c)
      : c_(c),
        q_(DType::kFloat32, Count(c.heads.heads), 2.0f, 4),
        k_(DType::kFloat32, Count(c.heads.kv_heads), 2.0f, 4),
        v_(DType::kFloat32, Count(c.heads.kv_heads), 1.0f, 4),
        cos_(DType::kFloat32, int64_t{c.batch} * c.tokens * c.heads.head_dim / 2, 1.0f, 4),
        sin_(DType::kFloat32, int64_t{c.batch} * c.tokens * c.heads.head_dim / 2, 1.0f, 4),
        q_norm_(c.dtype, c.heads.head_dim, 1.5f, 2),
        k_norm_(c.dtype, c.heads.head_dim, 1.5f, 2),
        keys_(c.dtype, CacheCount(), 1.0f),
        values_(c.dtype, CacheCount(), 1.0f),
        positions_(c.batch * 4, 4),
        out_(Count(c.heads.heads) * 4, 8) {
    for (int b = 0; b < c.batch; ++b) positions_.As<int32_t>()[b] = c.starts[b];
    args_.dtype = c.dtype;
    args_.batch = c.batch;
    args_.tokens = c.tokens;
    args_.heads = c.heads.heads;
    args_.kv_heads = c.heads.kv_heads;
    args_.head_dim = c.heads.head_dim;
    args_.capacity = c.capacity;
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
    args_.last_positions = c.tokens == 1 ? positions_.As<int32_t>() : nullptr;
    args_.total_length = c.tokens == 1 ? INT64_MIN : c.starts[0] + c.tokens;  // must not matter for one
    args_.causal = c.causal;
    args_.window = c.window;
    args_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.heads.head_dim)));
    args_.out = out_.As<float>();
    args_.workspace_bytes = CachedAttentionWorkspaceBytes(args_);
    workspace_ = std::make_unique<Guarded>(args_.workspace_bytes, 256);
    args_.workspace = workspace_->data();
  }

  CachedAttentionArgs& args() { return args_; }
  int32_t* positions() { return positions_.As<int32_t>(); }

  void LaunchAndCheck() {
    EXPECT(LaunchCachedAttention(args_, nullptr) == cudaSuccess, "launch");
    CheckCache(keys_, k_, c_.norms ? &k_norm_ : nullptr, true, "keys");
    CheckCache(values_, v_, nullptr, false, "values");
    CheckOutputs();
  }

  // Whether the cache is as it was made.
  bool CacheIsUntouched() const {
    for (size_t i = 0; i < keys_.values.size(); ++i) {
      if (Key(keys_, i) != keys_.values[i] || Key(values_, i) != values_.values[i]) return false;
    }
    return true;
  }

 private:
  int64_t Count(int heads) const { return int64_t{c_.batch} * c_.tokens * heads * c_.heads.head_dim; }
  int64_t CacheCount() const {
    return int64_t{c_.batch} * c_.heads.kv_heads * c_.capacity * c_.heads.head_dim;
  }
  double Key(const Tensor& cache, int64_t index) const {
    return LoadAs(cache.memory.data(), c_.dtype, index);
  }
  int64_t CacheIndex(int row, int head, int position) const {
    return ((int64_t{row} * c_.heads.kv_heads + head) * c_.capacity + position) * c_.heads.head_dim;
  }
  std::vector<double> Prepared(const Tensor& x, int heads, int row, int token, int head, const Tensor* norm) {
    const int64_t at = int64_t{row} * c_.tokens + token;
    const int dim = c_.heads.head_dim;
    return PrepareHead(x.values.data() + (at * heads + head) * dim, dim, norm, args_.epsilon,
                       cos_.values.data() + at * dim / 2, sin_.values.data() + at * dim / 2);
  }

  void CheckCache(const Tensor& cache, const Tensor& x, const Tensor* norm, bool rotated, const char* what) {
    const int dim = c_.heads.head_dim;
    std::vector<double> expected(cache.values.begin(), cache.values.end());
    for (int b = 0; b < c_.batch; ++b) {
      for (int t = 0; t < c_.tokens; ++t) {
        for (int h = 0; h < c_.heads.kv_heads; ++h) {
          const float* from = x.values.data() + ((int64_t{b} * c_.tokens + t) * c_.heads.kv_heads + h) * dim;
          const std::vector<double> head =
              rotated ? Prepared(x, c_.heads.kv_heads, b, t, h, norm) : std::vector<double>(from, from + dim);
          std::copy(head.begin(), head.end(), expected.begin() + CacheIndex(b, h, c_.starts[b] + t));
        }
      }
    }
    const double tolerance = c_.dtype == DType::kFloat32 ? 1e-6 : c_.dtype == DType::kFloat16 ? 5e-4 : 4e-3;
    ExpectClose(cache.memory.data(), c_.dtype, expected, tolerance, what);
  }

  // Against the cache as it is now, so that rounding on the way there does not count.
  void CheckOutputs() {
    const int dim = c_.heads.head_dim;
    std::vector<double> expected;
    for (int b = 0; b < c_.batch; ++b) {
      for (int t = 0; t < c_.tokens; ++t) {
        for (int h = 0; h < c_.heads.heads; ++h) {
          const int position = c_.starts[b] + t;
          const int kv_head = h / (c_.heads.heads / c_.heads.kv_heads);
          const auto visible = [&](int j) {
            return (!c_.causal || j <= position) && (c_.window == 0 || position - j < c_.window);
          };
          struct CacheAt {
            const CachedCall& call;
            const Tensor& cache;
            int64_t first;
            double operator()(int j, size_t d) const {
              return call.Key(cache, first + int64_t{j} * call.c_.heads.head_dim + static_cast<int64_t>(d));
            }
          };
          const int64_t first = CacheIndex(b, kv_head, 0);
          const std::vector<double> head = Attend(
              Prepared(q_, c_.heads.heads, b, t, h, c_.norms ? &q_norm_ : nullptr), c_.starts[b] + c_.tokens,
              args_.scale, visible, CacheAt{*this, keys_, first}, CacheAt{*this, values_, first});
          expected.insert(expected.end(), head.begin(), head.end());
        }
      }
    }
    EXPECT(static_cast<int>(expected.size()) % dim == 0, "sizes");
    ExpectClose(out_.data(), DType::kFloat32, expected, AttentionTolerance(c_.dtype), "out");
  }

  CacheCase c_;
  Tensor q_, k_, v_, cos_, sin_, q_norm_, k_norm_, keys_, values_;
  Guarded positions_, out_;
  std::unique_ptr<Guarded> workspace_;
  CachedAttentionArgs args_;
};

void RunCase(const CacheCase& c) {
  const int before = testing::failures;
  CachedCall(c).LaunchAndCheck();
  EXPECT(
      testing::failures == before,
      "dtype %d, %d x %d tokens, %d / %d heads of %d, capacity %d, start %d, causal %d, window %d, norms %d",
      static_cast<int>(c.dtype), c.batch, c.tokens, c.heads.heads, c.heads.kv_heads, c.heads.head_dim,
      c.capacity, c.starts[0], c.causal, c.window, c.norms);
}

// Rows as long as the cache, nearly empty, and in between.
std::vector<int> RandomStarts(int batch, int tokens, int capacity) {
  std::vector<int> starts;
  for (int b = 0; b < batch; ++b) {
    starts.push_back(b > 0 && tokens > 1 ? starts[0] : RandomInt(0, capacity - tokens));
  }
  if (tokens == 1) starts.back() = capacity - 1;
  return starts;
}

constexpr Heads kHeads[] = {{4, 4, 64}, {6, 2, 128}, {4, 2, 80}, {3, 1, 72},
                            {2, 2, 6},  {2, 1, 256}, {5, 1, 40}};

}  // namespace

void CachedAttentionMatchesTheReference() {
  emulator::bank_conflicts = 0;
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int tokens : {1, 2, 37, 70}) {
        const int batch = RandomInt(1, 2);
        const int capacity = tokens + RandomInt(0, tokens <= 2 ? 400 : 60);
        RunCase({dtype, batch, tokens, heads, capacity, RandomStarts(batch, tokens, capacity),
                 RandomInt(0, 3) > 0, RandomInt(0, 2) == 0 ? RandomInt(1, capacity) : 0,
                 RandomInt(0, 1) == 0});
      }
    }
  }
  // More query heads to a key head than a block holds; many rows, whose keys are not split; one position.
  RunCase({DType::kBFloat16, 1, 1, {20, 1, 64}, 300, {299}, true, 0, true});
  RunCase({DType::kFloat16, 150, 1, {4, 4, 64}, 40, RandomStarts(150, 1, 40), true, 7, false});
  RunCase({DType::kFloat32, 150, 1, {4, 4, 10}, 40, RandomStarts(150, 1, 40), true, 0, true});
  RunCase({DType::kBFloat16, 1, 1, {2, 1, 128}, 1, {0}, true, 0, true});
  RunCase({DType::kBFloat16, 1, 1, {2, 1, 128}, 9000, {8999}, true, 0, true});
  // A few tokens after many: their keys are split too.
  RunCase({DType::kBFloat16, 1, 5, {4, 2, 64}, 1000, {990}, true, 0, true});
  RunCase({DType::kFloat16, 1, 66, {2, 1, 128}, 500, {400}, true, 70, true});
  RunCase({DType::kFloat32, 2, 5, {4, 2, 64}, 500, {490, 490}, true, 300, true});
  EXPECT(emulator::bank_conflicts == 0, "%lld matrix loads met bank conflicts",
         static_cast<long long>(emulator::bank_conflicts));
}

// The same call at other positions, as a captured graph replays it, and the same bits when repeated.
void DecodingReadsPositionsFromTheDevice() {
  for (const DType dtype : kTypes) {
    const CacheCase c = {dtype, 2, 1, {8, 2, 64}, 700, {0, 699}, true, 0, false};
    CachedCall call(c);
    const size_t count = size_t{2} * 8 * 64;
    std::vector<std::vector<float>> outs;
    for (const int position : {5, 640, 63, 64, 5}) {
      call.positions()[0] = call.positions()[1] = position;
      EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "position %d", position);
      outs.emplace_back(call.args().out, call.args().out + count);
    }
    EXPECT(outs.front() == outs.back(), "another result for the same position");
    EXPECT(outs[1] != outs[0] && outs[2] != outs[3], "one result for different positions");
    for (const int position : {640, 64}) {
      CacheCase fresh = c;
      fresh.starts = {position, position};
      RunCase(fresh);
    }
  }
}

void PositionsOutsideTheCache() {
  for (const DType dtype : kTypes) {
    for (const int rows : {1, 400}) {  // with and without a split
      for (const int position : {-1, 65, 66, INT_MAX, INT_MIN}) {
        const CacheCase c = {dtype, rows, 1, {2, 1, 8}, 65, std::vector<int>(rows, position), true, 0, true};
        CachedCall call(c);
        EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
        EXPECT(call.CacheIsUntouched(), "position %d changed the cache", position);
        const float* out = call.args().out;
        EXPECT(std::all_of(out, out + rows * 16, [](float value) { return value == 0.0f; }), "position %d",
               position);
      }
    }
  }
}

// As many heads as make blocks of 128 queries pay.
void AttentionInWideBlocks() {
  RunCase({DType::kBFloat16, 2, 35, {128, 2, 64}, 45, {7, 7}, true, 0, true});
  RunCase({DType::kFloat16, 2, 20, {128, 4, 128}, 60, {40, 40}, true, 9, false});
  RunCase({DType::kBFloat16, 1, 129, {128, 1, 6 * 8}, 129, {0}, true, 3, false});
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
  const CacheCase c = {DType::kBFloat16, 1, 3, {2, 1, 8}, 16, {13}, true, 0, false};
  CachedCall call(c);
  const auto refuses = [&](auto change, const char* what) {
    CachedAttentionArgs args = call.args();
    change(args);
    EXPECT(LaunchCachedAttention(args, nullptr) == cudaErrorInvalidValue, "%s", what);
  };
  EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "the cache is filled to its end");
  refuses([](auto& args) { args.total_length = 17; }, "a position after the cache");
  refuses([](auto& args) { args.total_length = 2; }, "a position before the cache");
  refuses([](auto& args) { args.tokens = 1; }, "one token without positions");
  refuses([](auto& args) { args.head_dim = 7; }, "an odd head size");
  refuses([](auto& args) { args.head_dim = 258; }, "a head that is too large");
  refuses([](auto& args) { args.kv_heads = 3; }, "heads that cannot be shared out");
  refuses([](auto& args) { args.window = -1; }, "a negative window");
  refuses([](auto& args) { --args.workspace_bytes; }, "a workspace that is too small");
}

// Values are multiples of 1/4 with infinities and NaNs among them, so that many are equal.
void TopCandidatesMatchASort() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float special[] = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(),
                           -std::numeric_limits<float>::quiet_NaN(), -0.0f};
  struct Case {
    int rows, vocab, k, range;
  };
  const Case cases[] = {{1, 1, 1, 5},       {3, 40, 40, 9},          {2, 2048, 64, 50},
                        {1, 2049, 1, 1000}, {2, 5000, 7, 40000},     {1, 9000, 1000, 200},
                        {1, 1100, 1024, 0}, {1, 151936, 1, 1 << 20}, {1, 151936, 50, 1 << 20}};
  for (const Case& c : cases) {
    const Guarded logits(size_t{4} * c.rows * c.vocab, 4);
    const Guarded values(size_t{4} * c.rows * c.k, 4), ids(size_t{4} * c.rows * c.k, 4);
    for (int i = 0; i < c.rows * c.vocab; ++i) {
      const int draw = RandomInt(0, 29);
      logits.As<float>()[i] = draw < 5 ? special[draw] : RandomInt(-c.range, c.range) * 0.25f;
    }
    const size_t bytes = TopCandidatesWorkspaceBytes(c.rows, c.vocab, c.k);
    const Guarded workspace(bytes, 256);
    const TopCandidatesArgs args = {logits.As<float>(), c.rows,           c.vocab, c.k, values.As<float>(),
                                    ids.As<int32_t>(),  workspace.data(), bytes};
    EXPECT(LaunchTopCandidates(args, nullptr) == cudaSuccess, "%d of %d", c.k, c.vocab);
    for (int row = 0; row < c.rows; ++row) {
      std::vector<float> keys(logits.As<float>() + int64_t{row} * c.vocab,
                              logits.As<float>() + int64_t{row + 1} * c.vocab);
      for (float& key : keys) key = std::isnan(key) ? -kInfinity : key;
      std::vector<int> order(c.vocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return keys[a] > keys[b]; });
      for (int i = 0; i < c.k; ++i) {
        EXPECT(args.ids[row * c.k + i] == order[i] && args.values[row * c.k + i] == keys[order[i]],
               "%d of %d, row %d: place %d has id %d, not %d", c.k, c.vocab, row, i, args.ids[row * c.k + i],
               order[i]);
      }
    }
  }
  const float one = 1.0f;
  float value;
  int32_t id;
  std::vector<unsigned char> workspace(TopCandidatesWorkspaceBytes(1, 5000, 1024));
  TopCandidatesArgs args = {&one, 1, 5000, 1025, &value, &id, workspace.data(), workspace.size()};
  EXPECT(LaunchTopCandidates(args, nullptr) == cudaErrorInvalidValue, "1025 candidates");
  args.vocab = 1;
  args.k = 2;
  EXPECT(LaunchTopCandidates(args, nullptr) == cudaErrorInvalidValue, "more candidates than logits");
}

void CountersAndCopies() {
  const std::vector<int64_t> calls = {3, int64_t{1} << 40, 0};
  const Guarded raised(calls.size() * 8, 8);
  EXPECT(LaunchCountCall(calls.data(), raised.As<int64_t>(), 3, 1, nullptr) == cudaSuccess, "launch");
  EXPECT(LaunchCountCall(raised.As<int64_t>(), raised.As<int64_t>(), 3, 2, nullptr) == cudaSuccess,
         "in place");
  const std::vector<int64_t> expected = {3, (int64_t{1} << 40) + 1, 1};
  EXPECT(std::equal(expected.begin(), expected.end(), raised.As<int64_t>()), "counts");
  EXPECT(LaunchCountCall(calls.data(), raised.As<int64_t>(), 3, 3, nullptr) == cudaErrorInvalidValue,
         "which");

  const Guarded from(3 * 10, 1), to(3 * 14, 1);
  for (int i = 0; i < 30; ++i) from.data()[i] = static_cast<unsigned char>(i);
  EXPECT(LaunchCopyBlocks(from.data(), to.data(), 3, 10, 14, nullptr) == cudaSuccess, "launch");
  for (int i = 0; i < 42; ++i) {
    const int byte = i % 14 < 10 ? i / 14 * 10 + i % 14 : 0xff;
    EXPECT(to.data()[i] == byte, "byte %d is %d, not %d", i, to.data()[i], byte);
  }
  EXPECT(LaunchCopyBlocks(from.data(), to.data(), 3, 10, 9, nullptr) == cudaErrorInvalidValue,
         "smaller blocks");
}
