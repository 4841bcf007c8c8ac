#include <cmath>
#include <limits>

#include "attention.h"
#include "isa.h"
#include "parallel.h"
#include "product.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Keys of a row and kv head that make one item. It does not depend on the number of threads, so neither do
// the results.
constexpr int64_t kChunk = 512;

// Most floats of partial results at a time.
constexpr int64_t kPartialFloats = 8 << 20;

// Below so many key values, the calling thread works alone: waking the others costs more.
constexpr int64_t kInlineValues = 64 * 1024;

// All queries that share a kv head of a row, a unit, meet its visible keys, which are cut into chunks. Every
// chunk gives sums relative to its own largest score; they are joined at the end.
class StreamedPass {
 public:
  StreamedPass(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        operand_(table_.operand(DType::kFloat32, Precision::kFloat32)),
        pool_(pool),
        group_(args.heads / args.kv_heads),
        queries_(group_ * args.tokens),
        query_bytes_(RoundUp(args.head_dim, table_.block) * operand_.bytes) {
    for (int64_t row = 0; row < args.batch; ++row) {
      const KeyRange keys = Keys(row);
      chunks_ = std::max(chunks_, CeilDiv(keys.end - keys.begin, kChunk));
      values_ += (keys.end - keys.begin) * args.kv_heads * args.head_dim;
    }
    const int64_t row_floats = args.kv_heads * chunks_ * queries_ * PartialFloats();
    rows_together_ = std::clamp<int64_t>(kPartialFloats / std::max<int64_t>(1, row_floats), 1, args.batch);
    partials_ = workspace.Take<float>(rows_together_ * row_floats);
    const int64_t slots = pool.NumThreads();
    packed_ = workspace.Take<char>(slots * queries_ * query_bytes_);
    scores_ = workspace.Take<float>(slots * queries_ * kChunk);
  }

  void Run() {
    for (int64_t row = 0; row < args_.batch; row += rows_together_) {
      row0_ = row;
      const int64_t rows = std::min(rows_together_, args_.batch - row);
      ForItems(rows * args_.kv_heads * chunks_, [&](int64_t slot, int64_t item) {
        const int64_t chunk = item % chunks_;
        const int64_t unit = item / chunks_;
        Chunk(slot, row0_ + unit / args_.kv_heads, unit % args_.kv_heads, chunk);
      });
      ForItems(rows * args_.kv_heads, [&](int64_t, int64_t unit) {
        for (int64_t i = 0; i < queries_; ++i) Join(row0_ + unit / args_.kv_heads, unit % args_.kv_heads, i);
      });
    }
  }

 private:
  // One query's result over a chunk: the largest score, the sum of exponentials and head_dim sums of values.
  int64_t PartialFloats() const { return 2 + args_.head_dim; }

  // The keys that some query of the row sees.
  KeyRange Keys(int64_t row) const {
    return {VisibleKeys(args_, row, 0).begin, VisibleKeys(args_, row, args_.tokens - 1).end};
  }

  // Results of a unit's queries, which are numbered head by head.
  float* Partials(int64_t row, int64_t kv_head, int64_t chunk) const {
    const int64_t unit = (row - row0_) * args_.kv_heads + kv_head;
    return partials_ + (unit * chunks_ + chunk) * queries_ * PartialFloats();
  }
  int64_t HeadOf(int64_t kv_head, int64_t query) const { return kv_head * group_ + query / args_.tokens; }
  int64_t TokenOf(int64_t query) const { return query % args_.tokens; }

  template <typename Body>
  void ForItems(int64_t count, const Body& body) const {
    if (values_ > kInlineValues) return ParallelItems(pool_, count, body);
    for (int64_t item = 0; item < count; ++item) body(int64_t{0}, item);
  }

  void Chunk(int64_t slot, int64_t row, int64_t kv_head, int64_t chunk) const {
    const KeyRange keys = Keys(row);
    const int64_t first = keys.begin + chunk * kChunk;
    const int64_t count = std::min(kChunk, keys.end - first);
    if (count <= 0) return;
    float* scores = scores_ + slot * queries_ * kChunk;
    const HeadStrides& k = args_.k_strides;
    Scores(packed_ + slot * queries_ * query_bytes_, row, kv_head,
           args_.k + row * k.row + kv_head * k.head + first * k.token, count, scores);
    float* partials = Partials(row, kv_head, chunk);
    for (int64_t i = 0; i < queries_; ++i) {
      const KeyRange seen = VisibleKeys(args_, row, TokenOf(i));
      const int64_t begin = std::clamp<int64_t>(seen.begin - first, 0, count);
      const int64_t end = std::clamp<int64_t>(seen.end - first, begin, count);
      Softmax(scores + i * kChunk, count, {begin, end}, partials + i * PartialFloats());
    }
    const HeadStrides& v = args_.v_strides;
    const float* values = args_.v + row * v.row + kv_head * v.head + first * v.token;
    table_.axpy[DTypeIndex(DType::kFloat32)]({scores, kChunk, static_cast<int>(queries_),
                                              reinterpret_cast<const char*>(values),
                                              v.token * static_cast<int64_t>(sizeof(float)), count,
                                              args_.head_dim, partials + 2, PartialFloats()});
  }

  // The unit's queries times `count` keys.
  void Scores(char* packed, int64_t row, int64_t kv_head, const float* k, int64_t count,
              float* scores) const {
    const HeadStrides& strides = args_.q_strides;
    for (int64_t i = 0; i < queries_; i += kTileTokens) {
      const int64_t size = std::min<int64_t>(kTileTokens, queries_ - i);
      char* tile = packed + i * query_bytes_;
      for (int64_t t = 0; t < size; ++t) {
        const float* q = args_.q + row * strides.row + HeadOf(kv_head, i + t) * strides.head +
                         TokenOf(i + t) * strides.token;
        operand_.pack(q, args_.head_dim, size, tile + t * table_.block * operand_.bytes);
      }
      operand_.tile({tile, static_cast<int>(size), reinterpret_cast<const char*>(k),
                     args_.k_strides.token * static_cast<int64_t>(sizeof(float)), count, args_.head_dim,
                     scores + i * kChunk, kChunk, queries_ == 1, nullptr, 0});
    }
  }

  // Exponentials of the scores that a query sees, zeros for the others; the largest score and the sum of the
  // exponentials go into its result.
  void Softmax(float* scores, int64_t count, KeyRange seen, float* partial) const {
    partial[0] = -std::numeric_limits<float>::infinity();
    partial[1] = 0.0f;
    if (seen.begin < seen.end) {
      float* from = scores + seen.begin;
      partial[0] = args_.scale * table_.max(from, seen.end - seen.begin);
      partial[1] = table_.exp_sum(from, args_.scale, partial[0], seen.end - seen.begin, from);
    }
    std::fill(scores, scores + seen.begin, 0.0f);
    std::fill(scores + seen.end, scores + count, 0.0f);
  }

  void Join(int64_t row, int64_t kv_head, int64_t query) const {
    const KeyRange keys = Keys(row);
    const int64_t chunks = CeilDiv(keys.end - keys.begin, kChunk);
    const HeadStrides& strides = args_.out_strides;
    float* out = args_.out + row * strides.row + HeadOf(kv_head, query) * strides.head +
                 TokenOf(query) * strides.token;
    const auto partial = [&](int64_t chunk) {
      return Partials(row, kv_head, chunk) + query * PartialFloats();
    };
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < chunks; ++c) largest = std::max(largest, partial(c)[0]);
    // Chunks in which the query sees nothing have no exponentials.
    float total = 0.0f;
    for (int64_t c = 0; c < chunks; ++c) {
      if (partial(c)[1] != 0.0f) total += partial(c)[1] * std::exp(partial(c)[0] - largest);
    }
    std::fill_n(out, args_.head_dim, 0.0f);
    for (int64_t c = 0; c < chunks; ++c) {
      if (partial(c)[1] == 0.0f) continue;
      const float factor = std::exp(partial(c)[0] - largest) / total;
      table_.scale_add(partial(c) + 2, factor, args_.head_dim, out, true);
    }
  }

  const AttentionArgs& args_;
  const KernelTable& table_;
  const Operand& operand_;
  ThreadPool& pool_;
  const int64_t group_;    // query heads of one kv head
  const int64_t queries_;  // of one unit
  const int64_t query_bytes_;
  int64_t chunks_ = 0;  // of the row that sees the most keys
  int64_t values_ = 0;  // of all keys
  int64_t rows_together_ = 1;
  int64_t row0_ = 0;
  float* partials_ = nullptr;  // [rows_together_, kv_heads, chunks_, queries_, PartialFloats()]
  char* packed_ = nullptr;     // for each slot the unit's queries
  float* scores_ = nullptr;    // for each slot [queries_, kChunk]
};

}  // namespace

void StreamedAttention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool) {
  StreamedPass(args, workspace, pool).Run();
}

}  // namespace switchyard::cpu
