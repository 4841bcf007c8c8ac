// Norm and rotary position embedding of attention heads (Su et al., RoFormer, arXiv 2104.09864).
#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread works alone.
constexpr int64_t kInlineValues = 16 * 1024;

}  // namespace

void Rotary(const RotaryArgs& args, ThreadPool& pool) {
  const KernelTable& table = Kernels();
  const HeadRotation& rotation = args.rotation;
  const int64_t width = args.heads * args.head_dim;
  const auto rotate = [&](int64_t, int64_t token) {
    for (int64_t d = token * width; d < (token + 1) * width; d += args.head_dim) {
      table.norm_rotate(args.x + d, rotation.norm, rotation.epsilon, rotation.cos + token * rotation.pairs,
                        rotation.sin + token * rotation.pairs, rotation.pairs, args.head_dim, args.out + d);
    }
  };
  if (args.tokens * width > kInlineValues) return ParallelItems(pool, args.tokens, rotate);
  for (int64_t token = 0; token < args.tokens; ++token) rotate(0, token);
}

}  // namespace switchyard::cpu
