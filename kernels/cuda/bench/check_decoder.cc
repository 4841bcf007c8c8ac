// Checks and times attention and the choice of candidates. Expected values are computed in double precision
// on the host, for a few queries and heads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

constexpr DType kTypes[] = {DType::kBFloat16, DType::kFloat16, DType::kFloat32};
constexpr int kCheckedQueries = 6;  // spread over a call's queries and heads
constexpr float kEpsilon = 1e-6f;

struct HeadCounts {
  int heads, kv_heads, head_dim;
};
constexpr HeadCounts kQuickHeads[] = {{4, 4, 64}, {8, 2, 128},  {4, 2, 80},
                                      {3, 1, 6},  {20, 1, 128}, {32, 4, 128}};
constexpr HeadCounts kTimedHeads[] = {{16, 16, 128}, {32, 4, 128}};

double Tolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 1e-5;
  return dtype == DType::kFloat16 ? 2e-3 : 1e-2;
}

const char* NameOf(DType dtype) {
  if (dtype == DType::kFloat32) return "float32";
  return dtype == DType::kBFloat16 ? "bfloat16" : "float16";
}

int Report(const std::string& what, DType dtype, double error, double tolerance) {
  const bool passed = error <= tolerance;
  std::printf("%-64s %-8s error %.1e %s\n", what.c_str(), NameOf(dtype), error, passed ? "ok" : "WRONG");
  return passed ? 0 : 1;
}

// `count` elements from `first` on, as floats on the host.
std::vector<float> DownloadPart(const void* data, DType dtype, int64_t first, int64_t count) {
  const DeviceBuffer floats(static_cast<size_t>(count) * sizeof(float));
  const unsigned char* from =
      static_cast<const unsigned char*>(data) + static_cast<size_t>(first) * ElementSize(dtype);
  CHECK_CUDA(LaunchConvert(from, dtype, floats.data(), DType::kFloat32, count, nullptr));
  CHECK_CUDA(cudaStreamSynchronize(nullptr));
  return Download<float>(floats);
}

// softmax(scale * q . keys^T) . values over `count` keys that lie `stride` apart.
std::vector<float> AttendOnHost(const std::vector<double>& q, const float* keys, const float* values,
                                int64_t count, int64_t stride, double scale) {
  std::vector<double> scores(count), out(q.size());
  for (int64_t j = 0; j < count; ++j) {
    for (size_t d = 0; d < q.size(); ++d)
      scores[j] += q[d] * keys[j * stride + static_cast<int64_t>(d)] * scale;
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (int64_t j = 0; j < count; ++j) {
    const double weight = std::exp(scores[j] - largest);
    total += weight;
    for (size_t d = 0; d < q.size(); ++d) out[d] += weight * values[j * stride + static_cast<int64_t>(d)];
  }
  std::vector<float> result;
  for (const double value : out) result.push_back(static_cast<float>(value / total));
  return result;
}

// Rows' new tokens, and how many positions are filled before.
struct Row {
  int64_t tokens, past;
};

int64_t TokensOf(const std::vector<Row>& rows) {
  int64_t tokens = 0;
  for (const Row& row : rows) tokens += row.tokens;
  return tokens;
}

constexpr int64_t kBlockSize = 64;

// A call over caches that already hold random positions. Blocks of the rows take turns in the pool.
class CachedCall {
 public:
  CachedCall(DType dtype, const HeadCounts& heads, const std::vector<Row>& rows, int64_t max_blocks)
      : rows_(rows),
        max_blocks_(max_blocks),
        q_(RandomBuffer(DType::kFloat32, TokensOf(rows) * heads.heads * heads.head_dim, 2.0f, 20)),
        k_(RandomBuffer(DType::kFloat32, TokensOf(rows) * heads.kv_heads * heads.head_dim, 2.0f, 21)),
        v_(RandomBuffer(DType::kFloat32, TokensOf(rows) * heads.kv_heads * heads.head_dim, 1.0f, 22)),
        cos_(RandomBuffer(DType::kFloat32, TokensOf(rows) * heads.head_dim / 2, 1.0f, 23)),
        sin_(RandomBuffer(DType::kFloat32, TokensOf(rows) * heads.head_dim / 2, 1.0f, 24)),
        q_norm_(RandomBuffer(dtype, heads.head_dim, 1.5f, 25)),
        k_norm_(RandomBuffer(dtype, heads.head_dim, 1.5f, 26)),
        keys_(RandomBuffer(dtype, PoolPositions() * heads.kv_heads * heads.head_dim, 1.0f, 27)),
        values_(RandomBuffer(dtype, PoolPositions() * heads.kv_heads * heads.head_dim, 1.0f, 28)),
        out_(q_.bytes()) {
    std::vector<int32_t> lengths, tables;
    int64_t first = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      starts_.push_back(static_cast<int32_t>(first));
      lengths.push_back(static_cast<int32_t>(rows[r].past));
      for (int64_t i = 0; i < max_blocks; ++i) tables.push_back(static_cast<int32_t>(BlockAt(r, i)));
      first += rows[r].tokens;
    }
    starts_.push_back(static_cast<int32_t>(first));
    places_.push_back(Upload(starts_));
    places_.push_back(Upload(lengths));
    places_.push_back(Upload(tables));
    args_.dtype = dtype;
    args_.tokens = first;
    args_.rows = static_cast<int64_t>(rows.size());
    args_.heads = heads.heads;
    args_.kv_heads = heads.kv_heads;
    args_.head_dim = heads.head_dim;
    args_.pairs = heads.head_dim / 2;
    args_.blocks = args_.rows * max_blocks;
    args_.block_size = kBlockSize;
    args_.max_blocks = max_blocks;
    args_.q = q_.As<float>();
    args_.k = k_.As<float>();
    args_.v = v_.As<float>();
    args_.cos = cos_.As<float>();
    args_.sin = sin_.As<float>();
    args_.q_norm = q_norm_.data();
    args_.k_norm = k_norm_.data();
    args_.epsilon = kEpsilon;
    args_.keys = keys_.data();
    args_.values = values_.data();
    args_.row_starts = places_[0].As<int32_t>();
    args_.past_lengths = places_[1].As<int32_t>();
    args_.block_tables = places_[2].As<int32_t>();
    args_.scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
    args_.out = out_.As<float>();
    workspace_ = DeviceBuffer(CachedAttentionWorkspaceBytes(args_));
    args_.workspace = workspace_.data();
    args_.workspace_bytes = workspace_.bytes();
    CHECK_CUDA(cudaMemset(counters_.data(), 0, counters_.bytes()));
    args_.counters = counters_.As<uint32_t>();
  }

  const CachedAttentionArgs& args() const { return args_; }
  const std::vector<Row>& rows() const { return rows_; }

  void Launch(cudaStream_t stream) const { CHECK_CUDA(LaunchCachedAttention(args_, stream)); }

  // Relative error of the results over the cache the call left, and of the keys and values it wrote there; 1
  // where another launch gives other bits or leaves the counters at anything but zeros.
  double Error(cudaStream_t stream) {
    out_.Poison();
    workspace_.Poison();
    Launch(stream);
    CHECK_CUDA(cudaStreamSynchronize(stream));
    std::vector<float> actual, expected;
    for (int i = 0; i < kCheckedQueries; ++i) {
      const size_t row = static_cast<size_t>(i) % rows_.size();
      if (rows_[row].tokens == 0) continue;
      const int64_t token = (rows_[row].tokens - 1) * i / (kCheckedQueries - 1);
      const int head = static_cast<int>((args_.heads - 1) * i / (kCheckedQueries - 1));
      CheckQuery(row, token, head, &actual, &expected);
    }
    return Repeats(stream) ? RelativeError(actual, expected) : 1.0;
  }

 private:
  // Whether the same call, several times in turn, does what it did.
  bool Repeats(cudaStream_t stream) {
    const std::vector<uint32_t> before = Download<uint32_t>(out_);
    for (int i = 0; i < 4; ++i) {
      out_.Poison();
      Launch(stream);
      CHECK_CUDA(cudaStreamSynchronize(stream));
      if (Download<uint32_t>(out_) != before) return false;
    }
    const std::vector<uint32_t> counters = Download<uint32_t>(counters_);
    return std::all_of(counters.begin(), counters.end(), [](uint32_t count) { return count == 0; });
  }

  // A head as it enters the products.
  std::vector<double> Prepare(const float* x, int heads, const void* norm, int64_t token, int head) const {
    const int dim = args_.head_dim, half = dim / 2;
    const std::vector<float> from = DownloadPart(x, DType::kFloat32, (token * heads + head) * dim, dim);
    const std::vector<float> weight = DownloadPart(norm, args_.dtype, 0, dim);
    const std::vector<float> cos = DownloadPart(args_.cos, DType::kFloat32, token * half, half);
    const std::vector<float> sin = DownloadPart(args_.sin, DType::kFloat32, token * half, half);
    double squares = 0.0;
    for (const float value : from) squares += double{value} * value;
    const double factor = 1.0 / std::sqrt(squares / dim + kEpsilon);
    std::vector<double> head_values(dim);
    for (int d = 0; d < half; ++d) {
      const double low = from[d] * factor * weight[d], high = from[d + half] * factor * weight[d + half];
      head_values[d] = low * cos[d] - high * sin[d];
      head_values[d + half] = high * cos[d] + low * sin[d];
    }
    return head_values;
  }

  int64_t PoolPositions() const { return static_cast<int64_t>(rows_.size()) * max_blocks_ * kBlockSize; }
  int64_t BlockAt(size_t row, int64_t index) const {
    return index * static_cast<int64_t>(rows_.size()) + static_cast<int64_t>(row);
  }

  // The first `count` positions of a row and kv head.
  std::vector<float> DownloadRow(const void* pool, size_t row, int kv_head, int64_t count) const {
    std::vector<float> positions;
    for (int64_t i = 0; i * kBlockSize < count; ++i) {
      const int64_t first = (BlockAt(row, i) * args_.kv_heads + kv_head) * kBlockSize * args_.head_dim;
      const int64_t wanted = std::min(kBlockSize, count - i * kBlockSize);
      const std::vector<float> part = DownloadPart(pool, args_.dtype, first, wanted * args_.head_dim);
      positions.insert(positions.end(), part.begin(), part.end());
    }
    return positions;
  }

  void CheckQuery(size_t row, int64_t token, int head, std::vector<float>* actual,
                  std::vector<float>* expected) const {
    const int dim = args_.head_dim;
    const int kv_head = head / (args_.heads / args_.kv_heads);
    const int64_t count = rows_[row].past + token + 1;
    const std::vector<float> keys = DownloadRow(args_.keys, row, kv_head, count);
    const std::vector<float> values = DownloadRow(args_.values, row, kv_head, count);
    const int64_t at = starts_[row] + token;
    const std::vector<float> out = AttendOnHost(Prepare(args_.q, args_.heads, args_.q_norm, at, head),
                                                keys.data(), values.data(), count, dim, args_.scale);
    const auto append = [](const std::vector<float>& from, std::vector<float>* to) {
      to->insert(to->end(), from.begin(), from.end());
    };
    append(DownloadPart(args_.out, DType::kFloat32, (at * args_.heads + head) * dim, dim), actual);
    append(out, expected);
    append({keys.end() - dim, keys.end()}, actual);
    for (const double value : Prepare(args_.k, args_.kv_heads, args_.k_norm, at, kv_head)) {
      expected->push_back(static_cast<float>(value));
    }
    append({values.end() - dim, values.end()}, actual);
    append(DownloadPart(args_.v, DType::kFloat32, (at * args_.kv_heads + kv_head) * dim, dim), expected);
  }

  std::vector<Row> rows_;
  int64_t max_blocks_;
  DeviceBuffer q_, k_, v_, cos_, sin_, q_norm_, k_norm_, keys_, values_, out_, workspace_;
  std::vector<int32_t> starts_;
  std::vector<DeviceBuffer> places_;
  DeviceBuffer counters_{kAttentionCounters * sizeof(uint32_t)};
  CachedAttentionArgs args_;
};

std::string NameOf(const HeadCounts& heads, const std::vector<Row>& rows) {
  return "cached attention, " + std::to_string(heads.heads) + " / " + std::to_string(heads.kv_heads) +
         " heads of " + std::to_string(heads.head_dim) + ", " + std::to_string(rows.size()) + " rows, " +
         std::to_string(rows[0].tokens) + " after " + std::to_string(rows[0].past);
}

// Blocks for the longest row.
int64_t BlocksFor(const std::vector<Row>& rows) {
  int64_t most = 0;
  for (const Row& row : rows) most = std::max(most, row.past + row.tokens);
  return (most + kBlockSize - 1) / kBlockSize;
}

int CheckCached(cudaStream_t stream, DType dtype, const HeadCounts& heads) {
  const std::vector<Row> cases[] = {
      {{1, 0}, {1, 0}, {1, 0}},       {{1, 300}, {1, 17}}, {{1, 2047}},
      {{5, 900}, {5, 900}},           {{150, 0}, {97, 0}}, {{150, 70}, {1, 999}, {3, 500}, {1, 0}},
      {{3, 700}, {0, 0}, {0, 5}},     {{1, 9000}},         std::vector<Row>(20, {1, 1300}),
      std::vector<Row>(40, {150, 70})};
  int failures = 0;
  for (const std::vector<Row>& rows : cases) {
    CachedCall call(dtype, heads, rows, BlocksFor(rows) + 1);
    failures += Report(NameOf(heads, rows), dtype, call.Error(stream), Tolerance(dtype));
  }
  return failures;
}

// The vision tower's shape: all keys, no cache.
int CheckUncached(cudaStream_t stream, DType dtype, const HeadCounts& heads, int64_t queries, int64_t keys) {
  const int dim = heads.head_dim;
  const DeviceBuffer q = RandomBuffer(DType::kFloat32, queries * heads.heads * dim, 2.0f, 30);
  const DeviceBuffer k = RandomBuffer(DType::kFloat32, keys * heads.kv_heads * dim, 1.0f, 31);
  const DeviceBuffer v = RandomBuffer(DType::kFloat32, keys * heads.kv_heads * dim, 1.0f, 32);
  const DeviceBuffer out(q.bytes());
  AttentionArgs args = {dtype,         1,
                        queries,       keys,
                        heads.heads,   heads.kv_heads,
                        dim,           q.As<float>(),
                        k.As<float>(), v.As<float>(),
                        0.2f,          out.As<float>()};
  const DeviceBuffer workspace(AttentionWorkspaceBytes(args));
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.bytes();
  CHECK_CUDA(LaunchAttention(args, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> host_q = Download<float>(q), host_k = Download<float>(k),
                           host_v = Download<float>(v);
  const std::vector<float> host_out = Download<float>(out);
  std::vector<float> actual, expected;
  for (int i = 0; i < kCheckedQueries; ++i) {
    const int64_t query = (queries - 1) * i / (kCheckedQueries - 1);
    const int64_t head = (heads.heads - 1) * i / (kCheckedQueries - 1);
    const int64_t kv_head = head / (heads.heads / heads.kv_heads);
    const auto first = host_q.begin() + (query * heads.heads + head) * dim;
    const std::vector<float> row =
        AttendOnHost(std::vector<double>(first, first + dim), host_k.data() + kv_head * dim,
                     host_v.data() + kv_head * dim, keys, int64_t{heads.kv_heads} * dim, args.scale);
    expected.insert(expected.end(), row.begin(), row.end());
    const auto from = host_out.begin() + (query * heads.heads + head) * dim;
    actual.insert(actual.end(), from, from + dim);
  }
  return Report("attention, " + std::to_string(heads.heads) + " heads of " + std::to_string(dim) + ", " +
                    std::to_string(queries) + " queries, " + std::to_string(keys) + " keys",
                dtype, RelativeError(actual, expected), 2 * Tolerance(dtype));
}

// Every fourth logit is the same, so that ids decide.
struct Candidates {
  Candidates(int64_t rows, int64_t vocab, int k)
      : host(rows * vocab),
        values(rows * k * 4),
        ids(rows * k * 4),
        workspace(TopCandidatesWorkspaceBytes(rows, vocab, k)) {
    const DeviceBuffer random = RandomBuffer(DType::kFloat32, rows * vocab, 30.0f, 33);
    host = Download<float>(random);
    for (size_t i = 0; i < host.size(); i += 4) host[i] = 29.5f;
    logits = Upload(host);
    args = {logits.As<float>(), rows, vocab, k, values.As<float>(), ids.As<int32_t>(), workspace.data(),
            workspace.bytes()};
  }
  bool AreRight() const {
    const std::vector<float> chosen = Download<float>(values);
    const std::vector<int32_t> chosen_ids = Download<int32_t>(ids);
    std::vector<int32_t> order(args.vocab);
    for (int64_t row = 0; row < args.rows; ++row) {
      const float* from = host.data() + row * args.vocab;
      for (int64_t i = 0; i < args.vocab; ++i) order[i] = static_cast<int32_t>(i);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return from[a] > from[b]; });
      for (int i = 0; i < args.k; ++i) {
        const int64_t at = row * args.k + i;
        if (chosen_ids[at] != order[i] || chosen[at] != from[order[i]]) return false;
      }
    }
    return true;
  }
  std::vector<float> host;
  DeviceBuffer logits, values, ids, workspace;
  TopCandidatesArgs args;
};

int CheckCandidates(cudaStream_t stream, int64_t rows, int64_t vocab, int k) {
  const Candidates candidates(rows, vocab, k);
  CHECK_CUDA(LaunchTopCandidates(candidates.args, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  return Report(
      std::to_string(k) + " candidates of " + std::to_string(vocab) + ", " + std::to_string(rows) + " rows",
      DType::kFloat32, candidates.AreRight() ? 0.0 : 1.0, 0.0);
}

// Bytes of the cache that are read once, and operations of the products that a causal mask leaves.
double CacheBytes(const CachedCall& call) {
  const CachedAttentionArgs& args = call.args();
  double positions = 0.0;
  for (const Row& row : call.rows()) positions += static_cast<double>(row.past + row.tokens);
  return 2.0 * positions * args.kv_heads * args.head_dim * static_cast<double>(ElementSize(args.dtype));
}
double Operations(const CachedCall& call) {
  const CachedAttentionArgs& args = call.args();
  double pairs = 0.0;
  for (const Row& row : call.rows()) {
    const double seen = static_cast<double>(row.past) + 0.5 * static_cast<double>(row.tokens + 1);
    pairs += static_cast<double>(row.tokens) * seen;
  }
  return 4.0 * args.heads * args.head_dim * pairs;
}

// Between two steps of a model a layer's keys leave the card's second-level cache: calls with few queries
// take turns with as many caches as make them read from memory.
int CachesToRotate(const CachedCall& call) {
  constexpr double kBytes = 192e6;
  constexpr int kMost = 96;
  constexpr int64_t kFewTokens = 16;
  if (call.args().tokens > kFewTokens) return 1;
  return static_cast<int>(std::clamp(std::ceil(kBytes / CacheBytes(call)), 1.0, double{kMost}));
}

int TimeCached(cudaStream_t stream, const HeadCounts& heads, const std::vector<Row>& rows, double copy_rate,
               double matrix_rate) {
  const DType dtype = DType::kBFloat16;
  // Decoding's launches follow from the tables' width, which is usually larger than what is filled.
  const int64_t max_blocks = (BlocksFor(rows) + 15) / 16 * 16;
  std::vector<CachedCall> calls;
  calls.emplace_back(dtype, heads, rows, max_blocks);
  const double error = calls[0].Error(stream);
  const int copies = CachesToRotate(calls[0]);
  while (static_cast<int>(calls.size()) < copies) calls.emplace_back(dtype, heads, rows, max_blocks);
  const auto launch = [&](int i) { calls[i % copies].Launch(stream); };
  const double time = MedianMicroseconds(stream, launch);
  const double graph = MedianGraphMicroseconds(stream, std::max(10, copies), launch);
  const double rate = CacheBytes(calls[0]) / graph * 1e-3;
  const double flops = Operations(calls[0]) / graph * 1e-6;
  std::printf("| %d / %d x %d | %d | %d | %d | %.1e | %.1f | %.1f | %.0f (%.0f%%) | %.1f (%.0f%%) |\n",
              heads.heads, heads.kv_heads, heads.head_dim, static_cast<int>(rows.size()),
              static_cast<int>(rows[0].past), static_cast<int>(rows[0].tokens), error, time, graph, rate,
              100.0 * rate / copy_rate, flops, matrix_rate > 0.0 ? 100.0 * flops / matrix_rate : 0.0);
  return error <= Tolerance(dtype) ? 0 : 1;
}

void TimeCandidates(cudaStream_t stream, int64_t rows, int k) {
  const Candidates candidates(rows, 151936, k);
  const auto launch = [&](int) { CHECK_CUDA(LaunchTopCandidates(candidates.args, stream)); };
  const double time = MedianMicroseconds(stream, launch);
  std::printf("| %d | %d | %.1f | %.1f |\n", static_cast<int>(rows), k, time,
              MedianGraphMicroseconds(stream, 10, launch));
}

}  // namespace

int CheckDecoderKernels(cudaStream_t stream) {
  int failures = 0;
  for (const DType dtype : kTypes) {
    for (const HeadCounts& heads : kQuickHeads) {
      failures += CheckCached(stream, dtype, heads);
      failures += CheckUncached(stream, dtype, heads, 70, 131);
    }
    failures += CheckUncached(stream, dtype, {16, 16, 72}, 1024, 1024);
  }
  for (const int k : {1, 50, 1024}) {
    failures += CheckCandidates(stream, 1, 151936, k) + CheckCandidates(stream, 3, 5000, k);
  }
  return failures;
}

int TimeDecoderKernels(cudaStream_t stream, double copy_rate, double matrix_rate) {
  int failures = 0;
  std::printf("\nattention over a cache, bfloat16\n\n");
  std::printf(
      "| heads / kv heads x size | rows | cached (of the first) | new (of the first) | error | µs | µs in a "
      "graph | GB/s (of copy) | "
      "TFLOP/s (of "
      "matrix) |\n");
  std::printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const HeadCounts& heads : kTimedHeads) {
    // The last: a chunk of a prompt beside rows that decode.
    std::vector<Row> mixed(15, {1, 4095});
    mixed.insert(mixed.begin(), {497, 2048});
    for (const std::vector<Row>& rows : {std::vector<Row>{{512, 0}},
                                         {{4096, 0}},
                                         {{1, 511}},
                                         {{1, 4095}},
                                         {{1, 32767}},
                                         std::vector<Row>(16, {1, 4095}),
                                         {{8, 4088}},
                                         mixed}) {
      failures += TimeCached(stream, heads, rows, copy_rate, matrix_rate);
    }
  }
  std::printf(
      "\ncandidates of 151936 logits\n\n| rows | k | µs | µs in a graph |\n| ---: | ---: | ---: | ---: |\n");
  for (const int64_t rows : {1, 16}) {
    for (const int k : {1, 50, 1024}) TimeCandidates(stream, rows, k);
  }
  return failures;
}

}  // namespace switchyard::cuda::bench
