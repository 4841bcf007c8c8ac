#include <algorithm>
#include <cstring>
#include <vector>

#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread works alone.
constexpr int64_t kInlineValues = 16 * 1024;

// The input `place` tokens after a row's first; those before it lie in what was kept, or are zeros.
const float* InputAt(const CausalConvArgs& args, const ConvRow& row, int64_t place, const float* zeros) {
  if (place >= 0) return args.x + (row.first + place) * args.channels;
  if (row.fresh) return zeros;
  return row.context + ((args.kernel - 1) * args.dilation + place) * args.channels;
}

// Leaves the last inputs for the row's next token.
void KeepInputs(const CausalConvArgs& args, const ConvRow& row, const float* zeros) {
  const int64_t context = (args.kernel - 1) * args.dilation;
  for (int64_t i = 0; i < context; ++i) {
    // What was kept moves towards the front, which is not read again.
    std::memmove(row.context + i * args.channels, InputAt(args, row, row.tokens + i - context, zeros),
                 static_cast<size_t>(args.channels) * sizeof(float));
  }
}

}  // namespace

void CausalConv(const CausalConvArgs& args, Workspace& workspace, ThreadPool& pool) {
  const KernelTable& table = Kernels();
  const Workspace::Mark mark = workspace.mark();
  float* zeros = workspace.Take<float>(args.channels);
  std::fill_n(zeros, args.channels, 0.0f);
  std::vector<const ConvRow*> row_of(static_cast<size_t>(args.tokens), nullptr);
  for (int64_t r = 0; r < args.row_count; ++r)
    std::fill_n(row_of.begin() + args.rows[r].first, args.rows[r].tokens, &args.rows[r]);
  const auto convolve = [&](int64_t, int64_t token) {
    const ConvRow& row = *row_of[static_cast<size_t>(token)];
    const float* taps[kMaxConvTaps];
    for (int64_t tap = 0; tap < args.kernel; ++tap) {
      const int64_t back = (args.kernel - 1 - tap) * args.dilation;
      taps[tap] = InputAt(args, row, token - row.first - back, zeros);
    }
    table.conv_silu({.x = taps,
                     .w = args.weight,
                     .w_stride = args.channels,
                     .taps = args.kernel,
                     .channels = args.channels,
                     .out = args.y + token * args.channels});
  };
  if (args.tokens * args.channels > kInlineValues) {
    ParallelItems(pool, args.tokens, convolve);
  } else {
    for (int64_t token = 0; token < args.tokens; ++token) convolve(0, token);
  }
  for (int64_t r = 0; r < args.row_count; ++r)
    if (args.rows[r].tokens > 0) KeepInputs(args, args.rows[r], zeros);
  workspace.Rewind(mark);
}

}  // namespace switchyard::cpu
