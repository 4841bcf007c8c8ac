// Cases for tables whose rows are looked up, and for the memory of n-grams: its hashes, and its convolution.
#include <cstdint>
#include <string>

#include "emulated.h"

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::RandomInt;
using testing::Tensor;

namespace {

struct Row {
  int tokens;
  bool fresh;
};

// A convolution of rows that lie in the slots in reverse, with one slot more than there are rows.
struct ConvCall {
  ConvCall(const std::vector<Row>& of, int channels_, int kernel_, int dilation_)
      : rows(of),
        channels(channels_),
        kernel(kernel_),
        dilation(dilation_),
        tokens(Count()),
        x(DType::kFloat32, int64_t{tokens} * channels, 1.0f, 4),
        weight(DType::kFloat32, int64_t{kernel} * channels, 1.0f, 4),
        states(DType::kFloat32, int64_t(rows.size() + 1) * Context() * channels, 1.0f, 4),
        places((3 * rows.size() + 1) * 4, 4),
        out(size_t{4} * tokens * channels, 4) {
    int32_t* starts = places.As<int32_t>();
    int32_t *past = starts + rows.size() + 1, *slots = past + rows.size();
    starts[0] = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      starts[r + 1] = starts[r] + rows[r].tokens;
      past[r] = rows[r].fresh ? 0 : 9;
      slots[r] = static_cast<int32_t>(rows.size() - r);
    }
    args.tokens = tokens, args.rows = static_cast<int64_t>(rows.size()), args.slots = args.rows + 1;
    args.channels = channels, args.kernel = kernel, args.dilation = dilation;
    args.x = x.memory.As<float>(), args.weight = weight.memory.As<float>();
    args.states = states.memory.As<float>();
    args.row_starts = starts, args.past_lengths = past, args.state_slots = slots;
    args.out = out.As<float>();
  }

  int Count() const {
    int count = 0;
    for (const Row& row : rows) count += row.tokens;
    return count;
  }
  int64_t Context() const { return int64_t{kernel - 1} * dilation; }
  // Of a row, `place` tokens after its first.
  double InputAt(size_t row, int64_t place, int channel) const {
    if (place >= 0) return x.values[(args.row_starts[row] + place) * channels + channel];
    if (rows[row].fresh) return 0.0;
    return states.values[((rows.size() - row) * Context() + Context() + place) * channels + channel];
  }

  void LaunchAndCheck() {
    EXPECT(LaunchCausalConv(args, nullptr) == cudaSuccess, "launch");
    std::vector<double> expected, kept(states.values.begin(), states.values.end());
    for (size_t r = 0; r < rows.size(); ++r) {
      for (int64_t t = 0; t < rows[r].tokens; ++t) {
        for (int c = 0; c < channels; ++c) {
          double sum = 0.0;
          for (int tap = 0; tap < kernel; ++tap)
            sum += InputAt(r, t - int64_t{kernel - 1 - tap} * dilation, c) *
                   weight.values[int64_t{tap} * channels + c];
          expected.push_back(sum / (1.0 + std::exp(-sum)));
        }
      }
      for (int64_t i = 0; i < Context() && rows[r].tokens > 0; ++i)
        for (int c = 0; c < channels; ++c)
          kept[((rows.size() - r) * Context() + i) * channels + c] =
              InputAt(r, rows[r].tokens + i - Context(), c);
    }
    ExpectClose(out.data(), DType::kFloat32, expected, 2e-6, "out");
    ExpectClose(states.memory.data(), DType::kFloat32, kept, 0.0, "last inputs");
  }

  std::vector<Row> rows;
  int channels, kernel, dilation, tokens;
  Tensor x, weight, states;
  Guarded places, out;
  CausalConvArgs args;
};

}  // namespace

void CausalConvMatchesTheReference() {
  for (const int channels : {1, 40, 130}) {
    for (const int kernel : {1, 2, 4}) {
      const std::vector<Row> rows = {
          {RandomInt(1, 20), true}, {1, false}, {0, false}, {RandomInt(1, 20), false}};
      ConvCall(rows, channels, kernel, RandomInt(1, 5)).LaunchAndCheck();
    }
  }
}

void CausalConvRefusesRowsThatDoNotFit() {
  for (const int32_t slot : {-1, 3, INT32_MAX}) {
    ConvCall call({{3, false}, {2, false}}, 5, 3, 2);
    const_cast<int32_t*>(call.args.state_slots)[0] = slot;
    EXPECT(LaunchCausalConv(call.args, nullptr) == cudaSuccess, "launch");
    for (int i = 0; i < 3 * 5; ++i) EXPECT(call.out.As<float>()[i] == 0.0f, "slot %d", slot);
    // Slot 2 is the one that the row would have had.
    const int64_t kept = call.Context() * 5;
    const float* states = call.states.memory.As<float>();
    for (int64_t i = 0; i < kept; ++i)
      EXPECT(states[2 * kept + i] == call.states.values[2 * kept + i], "a state changed");
  }
  ConvCall call({{3, true}}, 5, 3, 2);
  call.args.dilation = 0;
  EXPECT(LaunchCausalConv(call.args, nullptr) == cudaErrorInvalidValue, "no dilation");
}

void NgramRowsWrapAround() {
  // By numbers of 128 bits, of which the lower 64 count.
  for (const int order : {2, 3, 5}) {
    const int tokens = RandomInt(1, 200), heads = 2 * (order - 1);
    constexpr int64_t kEnd = 7;
    std::vector<int64_t> ids(tokens), preceding(int64_t{order - 1} * tokens), multipliers(order),
        sizes(heads), offsets(heads);
    for (int64_t& id : ids) id = RandomInt(0, 250'000);
    for (int64_t& id : preceding) id = RandomInt(0, 5) == 0 ? kEnd : RandomInt(-1, 250'000);
    for (int64_t& value : multipliers) value = int64_t{RandomInt(1, INT32_MAX)} * RandomInt(1, INT32_MAX);
    for (int64_t& size : sizes) size = RandomInt(1, 20'000'000);
    for (int64_t& offset : offsets) offset = RandomInt(0, INT32_MAX);
    const Guarded out(size_t{8} * tokens * heads, 8);
    NgramRowsArgs args = {tokens,
                          order,
                          heads,
                          kEnd,
                          ids.data(),
                          preceding.data(),
                          multipliers.data(),
                          sizes.data(),
                          offsets.data(),
                          out.As<int64_t>()};
    EXPECT(LaunchNgramRows(args, nullptr) == cudaSuccess, "launch");
    for (int t = 0; t < tokens; ++t) {
      for (int head = 0; head < heads; ++head) {
        __int128 mixed = static_cast<int64_t>(static_cast<__int128>(ids[t]) * multipliers[0]);
        bool ended = false;
        for (int i = 1; i <= head / 2 + 1; ++i) {
          const int64_t id = preceding[(i - 1) * tokens + t];
          ended = ended || id < 0 || id == kEnd;
          mixed ^= static_cast<int64_t>(static_cast<__int128>(ended ? kEnd : id) * multipliers[i]);
        }
        const __int128 row = (mixed % sizes[head] + sizes[head]) % sizes[head] + offsets[head];
        EXPECT(out.As<int64_t>()[t * heads + head] == row, "order %d, token %d, head %d", order, t, head);
      }
    }
    sizes[0] = 0;
    EXPECT(LaunchNgramRows(args, nullptr) == cudaSuccess && out.As<int64_t>()[0] == -1,
           "a head without a size");
    args.heads = heads + 1;
    EXPECT(order == 2 || LaunchNgramRows(args, nullptr) == cudaErrorInvalidValue,
           "heads that cannot be shared");
  }
}

void EmbeddingAndConversion() {
  for (const DType dtype : kTypes) {
    const int rows = 9, hidden = 300;
    const Tensor table(dtype, rows * hidden, 1.0f, 2);
    const std::vector<int64_t> ids = {8, 0, 3, 3};
    const Guarded same(ids.size() * hidden * ElementSize(dtype), 2), wide(ids.size() * hidden * 4, 4);
    std::vector<double> expected;
    for (const int64_t id : ids) {
      expected.insert(expected.end(), table.values.begin() + id * hidden,
                      table.values.begin() + (id + 1) * hidden);
    }
    const int64_t count = static_cast<int64_t>(ids.size());
    EXPECT(LaunchEmbeddingRows(table.memory.data(), dtype, hidden, ids.data(), count, same.data(), dtype,
                               nullptr) == cudaSuccess,
           "launch");
    ExpectClose(same.data(), dtype, expected, 0.0, "rows");
    EXPECT(LaunchConvert(same.data(), dtype, wide.data(), DType::kFloat32, count * hidden, nullptr) ==
               cudaSuccess,
           "launch");
    ExpectClose(wide.data(), DType::kFloat32, expected, 0.0, "widened rows");
  }
}
