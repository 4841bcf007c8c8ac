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

// The visible keys are cut into chunks; every chunk gives sums relative to its own largest score, which are
// joined at the end.
class StreamedPass {
 public:
  StreamedPass(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        operand_(table_.operand(DType::kFloat32, Precision::kFloat32)),
        pool_(pool),
        group_(args.heads / args.kv_heads),
        query_bytes_(RoundUp(args.head_dim, table_.block) * operand_.bytes) {
    for (int64_t row = 0; row < args.batch; ++row) {
      const KeyRange keys = VisibleKeys(args, row, 0);
      chunks_ = std::max(chunks_, CeilDiv(keys.end - keys.begin, kChunk));
      values_ += (keys.end - keys.begin) * args.kv_heads * args.head_dim;
    }
    const int64_t row_floats = args.heads * chunks_ * PartialFloats();
    rows_together_ = std::clamp<int64_t>(kPartialFloats / std::max<int64_t>(1, row_floats), 1, args.batch);
    partials_ = workspace.Take<float>(rows_together_ * row_floats);
    const int64_t slots = pool.NumThreads();
    queries_ = workspace.Take<char>(slots * group_ * query_bytes_);
    scores_ = workspace.Take<float>(slots * group_ * kChunk);
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
      ForItems(rows * args_.heads,
               [&](int64_t, int64_t item) { Join(row0_ + item / args_.heads, item % args_.heads); });
    }
  }

 private:
  // One query's result over a chunk: the largest score, the sum of exponentials and head_dim sums of values.
  int64_t PartialFloats() const { return 2 + args_.head_dim; }

  // Query heads of one kv head follow each other, as the value kernel wants it.
  float* Partial(int64_t row, int64_t kv_head, int64_t chunk) const {
    return partials_ +
           (((row - row0_) * args_.kv_heads + kv_head) * chunks_ + chunk) * group_ * PartialFloats();
  }

  template <typename Body>
  void ForItems(int64_t count, const Body& body) const {
    if (values_ > kInlineValues) return ParallelItems(pool_, count, body);
    for (int64_t item = 0; item < count; ++item) body(int64_t{0}, item);
  }

  void Chunk(int64_t slot, int64_t row, int64_t kv_head, int64_t chunk) const {
    const KeyRange keys = VisibleKeys(args_, row, 0);
    const int64_t first = keys.begin + chunk * kChunk;
    const int64_t count = std::min(kChunk, keys.end - first);
    if (count <= 0) return;
    float* scores = scores_ + slot * group_ * kChunk;
    const HeadStrides& k = args_.k_strides;
    Scores(queries_ + slot * group_ * query_bytes_, row, kv_head,
           args_.k + row * k.row + kv_head * k.head + first * k.token, count, scores);
    float* partial = Partial(row, kv_head, chunk);
    for (int64_t g = 0; g < group_; ++g) {
      float* from = scores + g * kChunk;
      float* at = partial + g * PartialFloats();
      at[0] = args_.scale * table_.max(from, count);
      at[1] = table_.exp_sum(from, args_.scale, at[0], count, from);
    }
    const HeadStrides& v = args_.v_strides;
    const float* values = args_.v + row * v.row + kv_head * v.head + first * v.token;
    table_.axpy[DTypeIndex(DType::kFloat32)](
        {scores, kChunk, static_cast<int>(group_), reinterpret_cast<const char*>(values),
         v.token * static_cast<int64_t>(sizeof(float)), count, args_.head_dim, partial + 2, PartialFloats()});
  }

  // The group's queries times `count` keys.
  void Scores(char* queries, int64_t row, int64_t kv_head, const float* k, int64_t count,
              float* scores) const {
    for (int64_t g = 0; g < group_; g += kTileTokens) {
      const int64_t size = std::min<int64_t>(kTileTokens, group_ - g);
      char* packed = queries + g * query_bytes_;
      for (int64_t t = 0; t < size; ++t) {
        const float* q =
            args_.q + row * args_.q_strides.row + (kv_head * group_ + g + t) * args_.q_strides.head;
        operand_.pack(q, args_.head_dim, size, packed + t * table_.block * operand_.bytes);
      }
      operand_.tile({packed, static_cast<int>(size), reinterpret_cast<const char*>(k),
                     args_.k_strides.token * static_cast<int64_t>(sizeof(float)), count, args_.head_dim,
                     scores + g * kChunk, kChunk, group_ == 1, nullptr, 0});
    }
  }

  void Join(int64_t row, int64_t head) const {
    const KeyRange keys = VisibleKeys(args_, row, 0);
    const int64_t chunks = CeilDiv(keys.end - keys.begin, kChunk);
    float* out = args_.out + row * args_.out_strides.row + head * args_.out_strides.head;
    const auto partial = [&](int64_t chunk) {
      return Partial(row, head / group_, chunk) + head % group_ * PartialFloats();
    };
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < chunks; ++c) largest = std::max(largest, partial(c)[0]);
    float total = 0.0f;
    for (int64_t c = 0; c < chunks; ++c) total += partial(c)[1] * std::exp(partial(c)[0] - largest);
    if (chunks == 0) std::fill_n(out, args_.head_dim, 0.0f);
    for (int64_t c = 0; c < chunks; ++c) {
      const float factor = std::exp(partial(c)[0] - largest) / total;
      table_.scale_add(partial(c) + 2, factor, args_.head_dim, out, c > 0);
    }
  }

  const AttentionArgs& args_;
  const KernelTable& table_;
  const Operand& operand_;
  ThreadPool& pool_;
  const int64_t group_;  // query heads of one kv head
  const int64_t query_bytes_;
  int64_t chunks_ = 0;  // of the row that sees the most keys
  int64_t values_ = 0;  // of all keys
  int64_t rows_together_ = 1;
  int64_t row0_ = 0;
  float* partials_ = nullptr;  // [rows_together_, kv_heads, chunks_, group_, PartialFloats()]
  char* queries_ = nullptr;    // for each slot
  float* scores_ = nullptr;    // for each slot [group_, kChunk]
};

}  // namespace

void StreamedAttention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool) {
  StreamedPass(args, workspace, pool).Run();
}

}  // namespace switchyard::cpu
