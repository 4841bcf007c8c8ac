// Cases for linear attention by the gated delta rule.
#include <cstdint>
#include <string>

#include "../delta_net_reference.h"
#include "emulated.h"

using namespace switchyard;
using namespace switchyard::cuda;
using delta_net::Case;
using delta_net::RowSize;
using delta_net::Sizes;
using testing::ExpectClose;
using testing::Guarded;
using testing::RandomFloat;
using testing::RandomInt;

namespace {

Case RandomCase(const Sizes& sizes, const std::vector<RowSize>& rows) {
  return Case(sizes, rows, [](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = 2.0f * RandomFloat();
    return values;
  });
}

// Memory that holds these values and ends where they do.
template <typename T>
struct Filled : Guarded {
  explicit Filled(const std::vector<T>& values) : Guarded(values.size() * sizeof(T), sizeof(T)) {
    std::copy(values.begin(), values.end(), this->template As<T>());
  }
};

// Rows lie in the slots in reverse, with one slot more than there are rows.
struct Call {
  explicit Call(const Case& c)
      : slots(static_cast<int64_t>(c.rows.size()) + 1),
        out(size_t{4} * c.tokens * c.sizes.values(), 4),
        conv(std::vector<float>(slots * (c.sizes.kernel - 1) * c.sizes.channels(), 7.0f)),
        states(std::vector<float>(slots * c.sizes.state(), 7.0f)) {
    const Sizes& s = c.sizes;
    int32_t first = 0;
    for (size_t r = 0; r < c.rows.size(); ++r) {
      starts.push_back(first);
      past.push_back(c.rows[r].fresh ? 0 : 5);
      slot_of.push_back(static_cast<int32_t>(c.rows.size() - r));
      const int64_t index = static_cast<int64_t>(r), kept = (s.kernel - 1) * s.channels();
      std::copy_n(c.inputs.begin() + index * kept, kept, conv.As<float>() + slot_of[r] * kept);
      std::copy_n(c.states.begin() + index * s.state(), s.state(),
                  states.As<float>() + slot_of[r] * s.state());
      first += static_cast<int32_t>(c.rows[r].tokens);
    }
    starts.push_back(first);
    const delta_net::Parts parts = c.Find();
    args.q = parts.q, args.k = parts.k, args.v = parts.v, args.z = parts.z, args.b = parts.b,
    args.a = parts.a;
    args.tokens = c.tokens, args.rows = static_cast<int64_t>(c.rows.size()), args.slots = slots;
    args.key_heads = static_cast<int>(s.key_heads), args.value_heads = static_cast<int>(s.value_heads());
    args.key_dim = static_cast<int>(s.key_dim), args.value_dim = static_cast<int>(s.value_dim);
    args.kernel = static_cast<int>(s.kernel);
    args.conv = c.conv.data(), args.a_log = c.a_log.data(), args.dt_bias = c.dt_bias.data();
    args.norm = c.norm.data(), args.epsilon = delta_net::kEpsilon;
    args.conv_states = conv.As<float>(), args.states = states.As<float>();
    args.row_starts = starts.data(), args.past_lengths = past.data(), args.state_slots = slot_of.data();
    args.out = out.As<float>();
    args.workspace_bytes = GatedDeltaNetWorkspaceBytes(args);
    workspace.resize(args.workspace_bytes);
    args.workspace = workspace.data();
  }

  int64_t slots;
  Guarded out;
  Filled<float> conv, states;
  std::vector<int32_t> starts, past, slot_of;
  std::vector<unsigned char> workspace;
  GatedDeltaNetArgs args;
};

void CheckCase(const Case& c) {
  const Sizes& s = c.sizes;
  const delta_net::Result expected = delta_net::Recur(c);
  Call call(c);
  EXPECT(LaunchGatedDeltaNet(call.args, nullptr) == cudaSuccess, "launch");
  ExpectClose(call.out.data(), DType::kFloat32, expected.out, 2e-4, "out");
  const int64_t kept = (s.kernel - 1) * s.channels();
  for (size_t r = 0; r < c.rows.size(); ++r) {
    const auto part = [&](const std::vector<double>& all, int64_t count) {
      const auto begin = all.begin() + static_cast<int64_t>(r) * count;
      return std::vector<double>(begin, begin + count);
    };
    ExpectClose(call.conv.As<float>() + call.slot_of[r] * kept, DType::kFloat32, part(expected.inputs, kept),
                0.0, "last inputs");
    ExpectClose(call.states.As<float>() + call.slot_of[r] * s.state(), DType::kFloat32,
                part(expected.states, s.state()), 1e-5, "state");
  }
  for (int64_t i = 0; i < s.state(); ++i)
    EXPECT(call.states.As<float>()[i] == 7.0f, "the slot of no row changed");
}

}  // namespace

void DeltaNetMatchesTheRecurrence() {
  for (const int64_t key_dim : {1, 17, 64, 65, 128, 130}) {
    const Sizes sizes = {RandomInt(1, 2),  RandomInt(1, 3), key_dim,
                         RandomInt(1, 40), RandomInt(1, 5), RandomInt(0, 1) == 1};
    CheckCase(RandomCase(sizes, {{RandomInt(0, 9), true}, {1, false}, {RandomInt(2, 12), false}, {1, true}}));
  }
  CheckCase(RandomCase({2, 2, 16, 20, 4, true}, {{70, true}, {2, false}}));
}

void DeltaNetRefusesRowsThatDoNotFit() {
  const Sizes sizes = {1, 2, 8, 6, 3, false};
  const Case c = RandomCase(sizes, {{2, false}, {3, false}, {2, true}});
  const delta_net::Result expected = delta_net::Recur(c);
  Call call(c);
  call.slot_of[1] = 4;  // beyond the pool
  EXPECT(LaunchGatedDeltaNet(call.args, nullptr) == cudaSuccess, "launch");
  std::vector<double> out = expected.out;
  std::fill_n(out.begin() + 2 * sizes.values(), 3 * sizes.values(), 0.0);
  ExpectClose(call.out.data(), DType::kFloat32, out, 2e-4, "out");
  call.args.key_dim = kMostDeltaKeys + 1;
  EXPECT(LaunchGatedDeltaNet(call.args, nullptr) == cudaErrorInvalidValue, "keys that are too wide");
  call.args.key_dim = 8;
  call.args.workspace_bytes -= 1;
  EXPECT(LaunchGatedDeltaNet(call.args, nullptr) == cudaErrorInvalidValue, "a small workspace");
}
