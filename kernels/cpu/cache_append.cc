#include "../common/float_types.h"
#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread works alone.
constexpr int64_t kInlineValues = 16 * 1024;

}  // namespace

void CacheAppend(const CacheAppendArgs& args, Workspace& workspace, ThreadPool& pool) {
  const KernelTable& table = Kernels();
  const auto narrow = table.narrow[DTypeIndex(args.dtype)];
  const Workspace::Mark mark = workspace.mark();
  float* rotated = workspace.Take<float>(pool.NumThreads() * args.head_dim);
  const int64_t width = args.heads * args.head_dim;
  const auto append = [&](int64_t slot, int64_t token) {
    for (int64_t head = 0; head < args.heads; ++head) {
      const float* x = args.x + token * width + head * args.head_dim;
      if (const HeadRotation* rotation = args.rotation) {
        float* out = rotated + slot * args.head_dim;
        table.norm_rotate(x, rotation->norm, rotation->epsilon, rotation->cos + token * rotation->pairs,
                          rotation->sin + token * rotation->pairs, rotation->pairs, args.head_dim, out);
        x = out;
      }
      const int64_t place = args.places[token] + head * args.head_stride;
      narrow(x, args.head_dim, static_cast<char*>(args.cache) + place * DTypeSize(args.dtype));
    }
  };
  if (args.tokens * width > kInlineValues) {
    ParallelItems(pool, args.tokens, append);
  } else {
    for (int64_t token = 0; token < args.tokens; ++token) append(0, token);
  }
  workspace.Rewind(mark);
}

}  // namespace switchyard::cpu
