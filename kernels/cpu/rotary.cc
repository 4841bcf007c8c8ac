// Norm and rotary position embedding of attention heads (Su et al., RoFormer, arXiv 2104.09864).
#include "isa.h"
#include "kernels.h"
#include "parallel.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread works alone.
constexpr int64_t kInlineValues = 16 * 1024;

}  // namespace

void Rotary(const RotaryArgs& args, ThreadPool& pool) {
  const KernelTable& table = Kernels();
  const int64_t half = args.head_dim / 2;
  const auto rotate = [&](int64_t, int64_t item) {
    const int64_t row = item / args.tokens;
    const int64_t token = item % args.tokens;
    const int64_t place = token + (args.rows == nullptr ? 0 : args.rows[row].past);
    const float* x = args.x + row * args.x_strides.row + token * args.x_strides.token;
    float* out = args.out + row * args.out_strides.row + place * args.out_strides.token;
    for (int64_t h = 0; h < args.heads; ++h) {
      table.norm_rotate(x + h * args.x_strides.head, args.norm, args.epsilon, args.cos + item * half,
                        args.sin + item * half, args.head_dim, out + h * args.out_strides.head);
    }
  };
  const int64_t items = args.batch * args.tokens;
  if (items * args.heads * args.head_dim > kInlineValues) return ParallelItems(pool, items, rotate);
  for (int64_t item = 0; item < items; ++item) rotate(0, item);
}

}  // namespace switchyard::cpu
