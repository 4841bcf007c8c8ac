#include <cmath>
#include <limits>

#include "../common/float_types.h"
#include "arch/isa.h"
#include "attention.h"
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

// A row, and where its partial results lie.
struct StreamedRow {
  int64_t row;
  KeyRange keys;    // what some query of the row sees
  int64_t queries;  // of one kv head, numbered head by head
  int64_t chunks;   // of its keys
  float* partials;  // [kv_heads, chunks, queries, PartialFloats()]
};

// All queries that share a kv head of a row, a unit, meet its visible keys, which are cut into chunks. Every
// chunk gives sums relative to its own largest score; they are joined at the end.
class StreamedPass {
 public:
  StreamedPass(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args),
        table_(Kernels()),
        operand_(table_.operand(args.dtype, Precision::kFloat32)),
        workspace_(workspace),
        pool_(pool),
        group_(args.heads / args.kv_heads),
        query_bytes_(RoundUp(args.head_dim, table_.block) * operand_.bytes),
        element_(DTypeSize(args.dtype)) {}

  void Run(const std::vector<int64_t>& rows) {
    std::vector<StreamedRow> together;
    int64_t floats = 0;
    for (const int64_t row : rows) {
      const StreamedRow next = Plan(row);
      most_queries_ = std::max(most_queries_, next.queries);
      if (!together.empty() && floats + RowFloats(next) > kPartialFloats) {
        RunTogether(together);
        together.clear();
        floats = 0;
      }
      together.push_back(next);
      floats += RowFloats(next);
    }
    RunTogether(together);
  }

 private:
  // One query's result over a chunk: the largest score, the sum of exponentials and head_dim sums of values.
  int64_t PartialFloats() const { return 2 + args_.head_dim; }
  int64_t RowFloats(const StreamedRow& of) const {
    return args_.kv_heads * of.chunks * of.queries * PartialFloats();
  }

  StreamedRow Plan(int64_t row) const {
    const AttentionRow& of = args_.rows[row];
    const KeyRange keys = {VisibleKeys(args_, of, 0).begin, VisibleKeys(args_, of, of.tokens - 1).end};
    return {row, keys, group_ * of.tokens, CeilDiv(keys.end - keys.begin, kChunk), nullptr};
  }

  struct Item {
    const StreamedRow* of;
    int64_t kv_head, chunk;
  };

  void RunTogether(std::vector<StreamedRow>& rows) {
    const Workspace::Mark mark = workspace_.mark();
    std::vector<Item> chunks, units;
    int64_t values = 0;
    for (StreamedRow& of : rows) {
      of.partials = workspace_.Take<float>(RowFloats(of));
      values += (of.keys.end - of.keys.begin) * args_.kv_heads * args_.head_dim;
      for (int64_t kv_head = 0; kv_head < args_.kv_heads; ++kv_head) {
        for (int64_t chunk = 0; chunk < of.chunks; ++chunk) chunks.push_back({&of, kv_head, chunk});
        units.push_back({&of, kv_head, 0});
      }
    }
    const bool alone = values <= kInlineValues;
    const int64_t slots = alone ? 1 : pool_.NumThreads();
    packed_ = workspace_.Take<char>(slots * most_queries_ * query_bytes_);
    scores_ = workspace_.Take<float>(slots * most_queries_ * kChunk);
    ForItems(alone, chunks, [&](int64_t slot, const Item& item) { Chunk(slot, item); });
    ForItems(alone, units, [&](int64_t, const Item& item) {
      for (int64_t i = 0; i < item.of->queries; ++i) Join(*item.of, item.kv_head, i);
    });
    workspace_.Rewind(mark);
  }

  template <typename Body>
  void ForItems(bool alone, const std::vector<Item>& items, const Body& body) const {
    const auto run = [&](int64_t slot, int64_t item) { body(slot, items[static_cast<size_t>(item)]); };
    const int64_t count = static_cast<int64_t>(items.size());
    if (!alone) return ParallelItems(pool_, count, run);
    for (int64_t item = 0; item < count; ++item) run(0, item);
  }

  const AttentionRow& RowOf(const StreamedRow& of) const { return args_.rows[of.row]; }
  // First value of a query's head among those of all rows.
  int64_t HeadAt(const StreamedRow& of, int64_t kv_head, int64_t query) const {
    const int64_t token = RowOf(of).first + TokenOf(of, query);
    return (token * args_.heads + kv_head * group_ + query / RowOf(of).tokens) * args_.head_dim;
  }
  int64_t TokenOf(const StreamedRow& of, int64_t query) const { return query % RowOf(of).tokens; }
  float* Partials(const StreamedRow& of, int64_t kv_head, int64_t chunk) const {
    return of.partials + (kv_head * of.chunks + chunk) * of.queries * PartialFloats();
  }

  void Chunk(int64_t slot, const Item& item) const {
    const StreamedRow& of = *item.of;
    const int64_t first = of.keys.begin + item.chunk * kChunk;
    const int64_t end = std::min(first + kChunk, of.keys.end);
    float* scores = scores_ + slot * most_queries_ * kChunk;
    Scores(packed_ + slot * most_queries_ * query_bytes_, of, item.kv_head, {first, end}, scores);
    float* partials = Partials(of, item.kv_head, item.chunk);
    for (int64_t i = 0; i < of.queries; ++i) {
      const KeyRange seen = VisibleKeys(args_, RowOf(of), TokenOf(of, i));
      const int64_t begin = std::clamp<int64_t>(seen.begin - first, 0, end - first);
      Softmax(scores + i * kChunk, end - first,
              {begin, std::clamp<int64_t>(seen.end - first, begin, end - first)},
              partials + i * PartialFloats());
    }
    AddValues(of, item.kv_head, {first, end}, scores, partials + 2);
  }

  // The unit's queries times the keys.
  void Scores(char* packed, const StreamedRow& of, int64_t kv_head, KeyRange keys, float* scores) const {
    const char* k = static_cast<const char*>(args_.k);
    for (int64_t i = 0; i < of.queries; i += kTileTokens) {
      const int64_t size = std::min<int64_t>(kTileTokens, of.queries - i);
      char* tile = packed + i * query_bytes_;
      for (int64_t t = 0; t < size; ++t) {
        operand_.pack(args_.q + HeadAt(of, kv_head, i + t), args_.head_dim, size,
                      tile + t * table_.block * operand_.bytes);
      }
      ForRuns(args_.layout, of.row, kv_head, keys.begin, keys.end, [&](const KeyRun& run) {
        operand_.tile({tile, static_cast<int>(size), k + run.offset * element_,
                       args_.layout.token_stride * element_, run.count, args_.head_dim,
                       scores + i * kChunk + run.position - keys.begin, kChunk, of.queries == 1, nullptr, 0});
      });
    }
  }

  // Exponentials times the values.
  void AddValues(const StreamedRow& of, int64_t kv_head, KeyRange keys, const float* weights,
                 float* sums) const {
    const char* v = static_cast<const char*>(args_.v);
    KeyRun run = RunAt(args_.layout, of.row, kv_head, keys.begin, keys.end);
    for (;;) {
      const int64_t behind = run.position + run.count;
      const bool last = behind == keys.end;
      const KeyRun next = last ? run : RunAt(args_.layout, of.row, kv_head, behind, keys.end);
      table_.axpy[DTypeIndex(args_.dtype)](
          {weights + run.position - keys.begin, kChunk, static_cast<int>(of.queries),
           v + run.offset * element_, args_.layout.token_stride * element_, run.count, args_.head_dim, sums,
           PartialFloats(), run.position != keys.begin, last ? nullptr : v + next.offset * element_});
      if (last) return;
      run = next;
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

  void Join(const StreamedRow& of, int64_t kv_head, int64_t query) const {
    float* out = args_.out + HeadAt(of, kv_head, query);
    const auto partial = [&](int64_t chunk) {
      return Partials(of, kv_head, chunk) + query * PartialFloats();
    };
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < of.chunks; ++c) largest = std::max(largest, partial(c)[0]);
    // Chunks in which the query sees nothing have no exponentials.
    float total = 0.0f;
    for (int64_t c = 0; c < of.chunks; ++c) {
      if (partial(c)[1] != 0.0f) total += partial(c)[1] * std::exp(partial(c)[0] - largest);
    }
    std::fill_n(out, args_.head_dim, 0.0f);
    for (int64_t c = 0; c < of.chunks; ++c) {
      if (partial(c)[1] == 0.0f) continue;
      const float factor = std::exp(partial(c)[0] - largest) / total;
      table_.scale_add(partial(c) + 2, factor, args_.head_dim, out, true);
    }
  }

  const AttentionArgs& args_;
  const KernelTable& table_;
  const Operand& operand_;
  Workspace& workspace_;
  ThreadPool& pool_;
  const int64_t group_;  // query heads of one kv head
  const int64_t query_bytes_;
  const int64_t element_;  // bytes of a key's value
  int64_t most_queries_ = 0;
  char* packed_ = nullptr;   // for each slot a unit's queries
  float* scores_ = nullptr;  // for each slot [most_queries_, kChunk]
};

}  // namespace

void StreamedAttention(const AttentionArgs& args, const std::vector<int64_t>& rows, Workspace& workspace,
                       ThreadPool& pool) {
  StreamedPass(args, workspace, pool).Run(rows);
}

}  // namespace switchyard::cpu
