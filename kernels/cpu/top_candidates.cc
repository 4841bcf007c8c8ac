#include <algorithm>
#include <limits>

#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Values that one task searches; a row of a large vocabulary is split into several.
constexpr int64_t kPartValues = 16 * 1024;
// Values compared at once with the least of the best so far.
constexpr int64_t kRun = 64;
// Below so many values, the calling thread searches alone.
constexpr int64_t kInlineValues = 16 * 1024;

struct Candidate {
  float value;
  int32_t id;
};

bool Better(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Most runs have no value above the threshold; a loop without branches finds that out in vectors. NaN is
// above nothing.
bool AnyAbove(const float* x, float threshold) {
  int any = 0;
  for (int64_t i = 0; i < kRun; ++i) any |= x[i] > threshold;
  return any != 0;
}

// The best `count` seen, on a heap with the worst of them on top.
class Best {
 public:
  Best(Candidate* heap, int64_t count) : heap_(heap), count_(count) {}

  // Values up to this one cannot enter: ids come in ascending order, so an equal value is the worse one.
  float threshold() const { return size_ < count_ ? -kInfinity : heap_[0].value; }

  void Offer(float value, int64_t id) {
    if (!(value > threshold())) return;
    if (size_ == count_) {
      std::pop_heap(heap_, heap_ + size_, Better);
      --size_;
    }
    heap_[size_++] = {value, static_cast<int32_t>(id)};
    std::push_heap(heap_, heap_ + size_, Better);
  }

  int64_t size() const { return size_; }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Candidate* heap_;
  int64_t count_;
  int64_t size_ = 0;
};

// Collects the best of x[from, to) that are above -inf, in no order; returns how many there are.
int64_t Search(const float* x, int64_t from, int64_t to, int64_t count, Candidate* found) {
  Best best(found, count);
  int64_t id = from;
  for (; id + kRun <= to; id += kRun) {
    if (!AnyAbove(x + id, best.threshold())) continue;
    for (int64_t i = id; i < id + kRun; ++i) best.Offer(x[i], i);
  }
  for (; id < to; ++id) best.Offer(x[id], id);
  return best.size();
}

// Writes `size` candidates best first; what is left of the row goes to the ids whose logits are no numbers
// above -inf, the lowest first.
void WriteRow(const TopCandidatesArgs& args, int64_t row, Candidate* found, int64_t size) {
  float* values = args.values + row * args.count;
  int32_t* ids = args.ids + row * args.count;
  const int64_t wanted = std::min(size, args.count);
  std::partial_sort(found, found + wanted, found + size, Better);
  for (int64_t i = 0; i < wanted; ++i) {
    values[i] = found[i].value;
    ids[i] = found[i].id;
  }
  const float* x = args.logits + row * args.vocab;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  for (int64_t id = 0, at = wanted; at < args.count; ++id) {
    if (x[id] > kLowest) continue;
    values[at] = kLowest;
    ids[at++] = static_cast<int32_t>(id);
  }
}

}  // namespace

void TopCandidates(const TopCandidatesArgs& args, Workspace& workspace, ThreadPool& pool) {
  if (args.rows == 0 || args.count == 0) return;
  const int64_t parts = (args.vocab + kPartValues - 1) / kPartValues;
  const int64_t room = std::min(args.count, kPartValues);
  Candidate* found = workspace.Take<Candidate>(args.rows * parts * room);
  int64_t* sizes = workspace.Take<int64_t>(args.rows * parts);
  const auto search = [&](int64_t, int64_t item) {
    const int64_t from = item % parts * kPartValues;
    const int64_t to = std::min(from + kPartValues, args.vocab);
    const float* x = args.logits + item / parts * args.vocab;
    sizes[item] = Search(x, from, to, std::min(args.count, to - from), found + item * room);
  };
  const auto write = [&](int64_t, int64_t row) {
    Candidate* all = found + row * parts * room;
    int64_t size = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const Candidate* of_part = all + part * room;
      const int64_t of_size = sizes[row * parts + part];
      if (all + size != of_part) std::copy(of_part, of_part + of_size, all + size);
      size += of_size;
    }
    WriteRow(args, row, all, size);
  };
  if (args.rows * args.vocab <= kInlineValues) {
    for (int64_t item = 0; item < args.rows * parts; ++item) search(0, item);
    for (int64_t row = 0; row < args.rows; ++row) write(0, row);
  } else {
    ParallelItems(pool, args.rows * parts, search);
    ParallelItems(pool, args.rows, write);
  }
}

}  // namespace switchyard::cpu
