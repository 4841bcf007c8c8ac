#include <cstring>

#include "kernels.h"
#include "parallel.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread copies alone.
constexpr int64_t kInlineValues = 64 * 1024;

}  // namespace

void CacheAppend(const CacheAppendArgs& args, ThreadPool& pool) {
  const auto append = [&](int64_t, int64_t item) {
    const int64_t row = item / args.heads;
    const int64_t head = item % args.heads;
    const float* x = args.x + row * args.x_strides.row + head * args.x_strides.head;
    float* cache = args.cache + row * args.cache_strides.row + head * args.cache_strides.head +
                   args.rows[row].past * args.cache_strides.token;
    for (int64_t t = 0; t < args.tokens; ++t) {
      std::memcpy(cache + t * args.cache_strides.token, x + t * args.x_strides.token,
                  static_cast<size_t>(args.head_dim) * sizeof(float));
    }
  };
  const int64_t items = args.batch * args.heads;
  if (items * args.tokens * args.head_dim > kInlineValues) return ParallelItems(pool, items, append);
  for (int64_t item = 0; item < items; ++item) append(0, item);
}

}  // namespace switchyard::cpu
