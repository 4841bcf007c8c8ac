// Checks that experts in memory of a bounded size are what their files hold, and which of them are there.
#include "../../kernels/weights/expert_memory.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

#include "../../kernels/common/quantized_elements.h"
#include "cuda/testing.h"

namespace {

using switchyard::ExpertLayout;
using switchyard::ExpertMemory;
using switchyard::ExpertRefs;
using switchyard::ExpertWeights;
using switchyard::QuantizedElement;
using switchyard::QuantizedEntry;
using switchyard::ResidencyCounts;
using switchyard::SlotDescriptions;
using switchyard::TensorEntry;
using switchyard::WeightMatrix;
using switchyard::WeightRef;
using switchyard::WeightStore;

constexpr int32_t kFloat = 1, kUint8 = 2, kBFloat16 = 16;

// A file of random bytes, and tensors in it one after another.
class Checkpoint {
 public:
  // `gap`: bytes before each tensor.
  explicit Checkpoint(size_t gap) : gap_(gap) {}
  ~Checkpoint() {
    if (!path_.empty()) std::filesystem::remove(path_);
  }

  int64_t Add(int32_t type, std::vector<int64_t> shape) {
    uint64_t bytes = type == kFloat ? 4 : type == kBFloat16 ? 2 : 1;
    for (const int64_t dim : shape) bytes *= static_cast<uint64_t>(dim);
    end_ += gap_;
    entries_.push_back({.name = "tensor " + std::to_string(entries_.size()),
                        .offset = end_,
                        .bytes = bytes,
                        .type = type,
                        .shape = std::move(shape)});
    end_ += bytes;
    return static_cast<int64_t>(entries_.size()) - 1;
  }

  std::shared_ptr<const WeightStore> Open(std::vector<QuantizedEntry> quantized = {}) {
    static int number = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("experts." + std::to_string(getpid()) + "." + std::to_string(number++));
    std::mt19937 random(7);
    std::string bytes(end_, '\0');
    // Small numbers: no float is infinite.
    for (char& byte : bytes) byte = static_cast<char>(random() % 60);
    std::ofstream(path_, std::ios::binary) << bytes;
    return WeightStore::Open({path_.string()}, entries_, std::move(quantized));
  }
  void CutTo(uint64_t bytes) const { std::filesystem::resize_file(path_, bytes); }

 private:
  const size_t gap_;
  uint64_t end_ = 0;
  std::vector<TensorEntry> entries_;
  std::filesystem::path path_;
};

float Element(const WeightMatrix& matrix, int64_t row, int64_t col) {
  if (matrix.transposed) std::swap(row, col);
  if (matrix.quantized != nullptr)
    return QuantizedElement(*matrix.quantized, matrix.matrix, matrix.first_row + row, matrix.first_col + col);
  const auto* data = static_cast<const std::byte*>(matrix.data);
  return switchyard::LoadElement(data + (row * matrix.stride + col) * switchyard::DTypeSize(matrix.dtype),
                                 matrix.dtype);
}

bool Same(const WeightMatrix& a, const WeightMatrix& b) {
  for (int64_t row = 0; row < a.rows; row++) {
    for (int64_t col = 0; col < a.cols; col++) {
      const float x = Element(a, row, col), y = Element(b, row, col);
      if (std::memcmp(&x, &y, sizeof x) != 0) return false;
    }
  }
  return a.rows == b.rows && a.cols == b.cols;
}

bool Same(const ExpertWeights& a, const ExpertWeights& b) {
  return Same(a.gate, b.gate) && Same(a.up, b.up) && Same(a.down, b.down);
}

WeightRef Whole(const WeightStore& store, int64_t handle, int64_t rows, int64_t cols) {
  return {.values = &store.Get(handle), .rows = rows, .cols = cols, .stride = cols};
}

// Experts of three matrices each, as most checkpoints have them.
struct Separate {
  static constexpr int64_t kIntermediate = 24, kHidden = 40;

  Separate(Checkpoint& checkpoint, int64_t count) {
    for (int64_t i = 0; i < 3 * count; i++) {
      const bool is_down = i % 3 == 0;
      checkpoint.Add(kBFloat16, {is_down ? kHidden : kIntermediate, is_down ? kIntermediate : kHidden});
    }
  }
  static std::vector<ExpertRefs> Of(const WeightStore& store, int64_t first, int64_t count) {
    std::vector<ExpertRefs> refs;
    for (int64_t e = 0; e < count; e++) {
      const int64_t handle = first + 3 * e;
      refs.push_back({Whole(store, handle + 1, kIntermediate, kHidden),
                      Whole(store, handle + 2, kIntermediate, kHidden),
                      Whole(store, handle, kHidden, kIntermediate)});
    }
    return refs;
  }
};

// All experts of a layer are wanted one by one, then together.
void ExpectSame(const std::shared_ptr<const WeightStore>& store, const std::vector<ExpertRefs>& refs) {
  ExpertMemory memory(store, {.max_bytes = int64_t{1} << 30});
  ExpertMemory::Layer& layer = memory.Require(refs);
  memory.Open();
  std::vector<int32_t> all;
  for (int32_t e = 0; e < static_cast<int32_t>(refs.size()); e++) {
    all.push_back(e);
    ExpertMemory::Lease lease(memory, layer, &e, 1);
    EXPECT(lease.groups() == 1 && lease.group()[e] == 1, "expert %d is on its way", e);
    lease.Arrive();
    EXPECT(memory.counts().fetches == e + 1, "expert %d has arrived", e);
    EXPECT(Same(lease.experts()[e], InPlace(refs[static_cast<size_t>(e)])), "expert %d", e);
    EXPECT(lease.experts()[e].gate.data == nullptr ||
               lease.experts()[e].gate.data != InPlace(refs[static_cast<size_t>(e)]).gate.data,
           "expert %d is a copy", e);
  }
  ExpertMemory::Lease lease(memory, layer, all.data(), static_cast<int64_t>(all.size()));
  EXPECT(lease.groups() == 0, "all are there");
  for (const int32_t e : all)
    EXPECT(Same(lease.experts()[e], InPlace(refs[static_cast<size_t>(e)])), "expert %d once more", e);
}

void MatricesOfTheirOwn() {
  for (const size_t gap : {size_t{0}, size_t{3}, size_t{5001}, size_t{200'000}}) {
    Checkpoint checkpoint(gap);
    Separate experts(checkpoint, 5);
    const auto store = checkpoint.Open();
    ExpectSame(store, Separate::Of(*store, 0, 5));
  }
}

void PartsOfOneTensor() {
  constexpr int64_t E = 6, I = 20, H = 36;
  for (const bool transposed : {false, true}) {
    Checkpoint checkpoint(4095);
    const int64_t gate_up =
        checkpoint.Add(kFloat, transposed ? std::vector{E, H, 2 * I} : std::vector{E, 2 * I, H});
    const int64_t down = checkpoint.Add(kFloat, transposed ? std::vector{E, I, H} : std::vector{E, H, I});
    const auto store = checkpoint.Open();
    std::vector<ExpertRefs> refs;
    for (int64_t e = 0; e < E; e++) {
      const WeightRef gate = {.values = &store->Get(gate_up),
                              .first_row = transposed ? e * H : e * 2 * I,
                              .rows = I,
                              .cols = H,
                              .stride = transposed ? 2 * I : H,
                              .transposed = transposed};
      WeightRef up = gate;
      (transposed ? up.first_col : up.first_row) += I;
      refs.push_back({gate,
                      up,
                      {.values = &store->Get(down),
                       .first_row = e * (transposed ? I : H),
                       .rows = H,
                       .cols = I,
                       .stride = transposed ? H : I,
                       .transposed = transposed}});
    }
    ExpectSame(store, refs);
  }
}

// Codes of 4 bits, several matrices in one tensor, with scales of one kind after the other.
void CodesOfSeveralMatrices() {
  constexpr int64_t E = 5, N = 12, K = 64;
  struct Kind {
    int64_t group_rows, group_cols, transposed;
    bool has_table;
  };
  // Groups within rows, of blocks, by columns first, over rows, and over the borders of matrices.
  const Kind kinds[] = {
      {1, 16, 0, false}, {4, 32, 0, false}, {1, 16, 1, false}, {0, 96, 0, true}, {0, 160, 0, false}};
  for (const auto& [group_rows, group_cols, transposed, has_table] : kinds) {
    for (const int64_t order : {0, 1}) {
      Checkpoint checkpoint(77);
      const int64_t codes = checkpoint.Add(kUint8, {E, N, K / 2});
      const int64_t scales_count = group_rows == 0 ? (E * N * K + group_cols - 1) / group_cols
                                                   : E * (N / group_rows) * (K / group_cols);
      const int64_t scales = checkpoint.Add(has_table ? kUint8 : kFloat, {scales_count});
      const int64_t multiplier = checkpoint.Add(kFloat, {1});
      const int64_t table = checkpoint.Add(kFloat, {256});
      const int64_t table_scales = checkpoint.Add(kFloat, {(scales_count + 7) / 8});
      QuantizedEntry entry;
      entry.name = "experts";
      entry.shape = {E, N, K};
      entry.codes = codes;
      entry.bits = 4;
      entry.order = order;
      entry.scales = scales;
      entry.group_rows = group_rows;
      entry.group_cols = group_cols;
      entry.transposed = transposed;
      entry.multiplier = multiplier;
      if (has_table) {
        entry.scale_kind = 2;
        entry.table_values = table;
        entry.table_scales = table_scales;
        entry.table_group = 8;
      }
      const auto store = checkpoint.Open({entry});
      std::vector<ExpertRefs> refs;
      for (int64_t e = 0; e < E; e++) {
        // Gate and up are halves of the rows, and the third is all of them.
        WeightRef half = Whole(*store, table_scales + 1, N / 2, K);
        half.first_row = e * N;
        WeightRef other = half, all = half;
        other.first_row += N / 2;
        all.rows = N;
        refs.push_back({half, other, all});
      }
      ExpectSame(store, refs);
    }
  }
}

void ArriveAll(ExpertMemory::Lease& lease) {
  for (int32_t group = 0; group < lease.groups(); group++) lease.Arrive();
}

ResidencyCounts Want(ExpertMemory& memory, ExpertMemory::Layer& layer, std::vector<int32_t> experts) {
  ExpertMemory::Lease lease(memory, layer, experts.data(), static_cast<int64_t>(experts.size()));
  ArriveAll(lease);
  return memory.counts();
}

// Many bytes arrive in groups, in order; one that cannot be read harms no other.
void ManyArriveInGroups() {
  constexpr int64_t kSide = 1024;
  constexpr int32_t kExperts = 8;
  Checkpoint checkpoint(5);
  for (int32_t i = 0; i < 3 * kExperts; i++) checkpoint.Add(kBFloat16, {kSide, kSide});
  const auto store = checkpoint.Open();
  std::vector<ExpertRefs> refs;
  for (int64_t e = 0; e < kExperts; e++) {
    refs.push_back({Whole(*store, 3 * e, kSide, kSide), Whole(*store, 3 * e + 1, kSide, kSide),
                    Whole(*store, 3 * e + 2, kSide, kSide)});
  }
  std::vector<int32_t> all;
  for (int32_t e = 0; e < kExperts; e++) all.push_back(e);
  const auto is_there = [&](const ExpertMemory::Lease& lease, int32_t e) {
    const ExpertWeights expected = InPlace(refs[static_cast<size_t>(e)]);
    const ExpertWeights& expert = lease.experts()[e];
    constexpr size_t kBytes = 2 * kSide * kSide;
    return std::memcmp(expert.gate.data, expected.gate.data, kBytes) == 0 &&
           std::memcmp(expert.up.data, expected.up.data, kBytes) == 0 &&
           std::memcmp(expert.down.data, expected.down.data, kBytes) == 0;
  };
  {
    ExpertMemory memory(store, {.max_bytes = int64_t{1} << 30});
    ExpertMemory::Lease lease(memory, memory.Require(refs), all.data(), kExperts);
    // Three experts of 6 MiB are more than 16 MiB.
    EXPECT(lease.groups() == 3, "%d groups", lease.groups());
    for (int32_t group = 1; group <= lease.groups(); group++) {
      lease.Arrive();
      for (const int32_t e : all) {
        EXPECT(lease.group()[e] == e / 3 + 1, "expert %d is in group %d", e, lease.group()[e]);
        EXPECT(lease.group()[e] > group || is_there(lease, e), "expert %d has arrived", e);
      }
    }
  }
  ExpertMemory memory(store, {.max_bytes = int64_t{1} << 30});
  ExpertMemory::Layer& layer = memory.Require(refs);
  // Within the fifth expert.
  checkpoint.CutTo(27 << 20);
  {
    ExpertMemory::Lease lease(memory, layer, all.data(), kExperts);
    lease.Arrive();
    std::string message;
    try {
      lease.Arrive();
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT(message.find("ends at byte") != std::string::npos, "%s", message.c_str());
  }
  EXPECT(memory.counts().fetches == 3, "%lld came", static_cast<long long>(memory.counts().fetches));
  EXPECT(Want(memory, layer, {0, 1, 2}).hits == 3, "and are there");
}

void TheLeastUsedGiveWay() {
  Checkpoint checkpoint(0);
  Separate experts(checkpoint, 8);
  const auto store = checkpoint.Open();
  const std::vector<ExpertRefs> first = Separate::Of(*store, 0, 4), second = Separate::Of(*store, 12, 4);
  int64_t slot = 0;
  for (const auto& layer : {first, second}) {
    for (const ExpertRefs& refs : layer)
      slot = std::max(slot, static_cast<int64_t>(ExpertLayout(*store, refs).slot_bytes()));
  }
  // Five slots, for two layers of four.
  ExpertMemory memory(store, {.max_bytes = 100 + 5 * slot, .other_bytes = 100});
  ExpertMemory::Layer& a = memory.Require(first);
  EXPECT(&memory.Require(first) == &a, "the same experts are one layer");
  ExpertMemory::Layer& b = memory.Require(second);
  EXPECT(Want(memory, a, {0, 1, 1, 0}).fetches == 2, "each is read once");
  EXPECT(memory.resident_bytes() == 100 + 5 * slot, "all slots count");
  EXPECT(memory.counts().bytes > 0 && memory.counts().bytes <= 2 * slot, "%lld bytes",
         static_cast<long long>(memory.counts().bytes));
  Want(memory, a, {0});
  EXPECT(Want(memory, b, {0, 1, 2}).fetches == 5, "there is room");
  EXPECT(Want(memory, b, {3}).fetches == 6, "one had to give way");
  EXPECT(Want(memory, a, {0}).fetches == 6, "which was not the one used most");
  EXPECT(Want(memory, a, {1}).fetches == 7, "but the one used least, and longest ago");
  const ResidencyCounts counts = memory.counts();
  EXPECT(counts.hits == 2, "%lld were there", static_cast<long long>(counts.hits));
  // Layers that come later share the slots, where their experts fit.
  ExpertMemory::Layer& c = memory.Require(Separate::Of(*store, 6, 4));
  EXPECT(Want(memory, c, {0, 1}).fetches == 9, "both are read");
}

int64_t SlotBytes(const WeightStore& store, const std::vector<ExpertRefs>& layer) {
  size_t bytes = 0;
  for (const ExpertRefs& refs : layer) bytes = std::max(bytes, ExpertLayout(store, refs).slot_bytes());
  return static_cast<int64_t>(bytes);
}

// Has experts of `layer` brought, and those of `next` read ahead that are missing.
void WantAndExpect(ExpertMemory& memory, ExpertMemory::Layer& layer, std::vector<int32_t> wanted,
                   const ExpertMemory::Layer& next, std::vector<int32_t> expected) {
  ExpertMemory::Lease lease(memory, layer, wanted.data(), static_cast<int64_t>(wanted.size()));
  lease.Expect(next, expected.data(), static_cast<int64_t>(expected.size()));
  ArriveAll(lease);
}

void AwaitBytes(const ExpertMemory& memory, int64_t bytes) {
  while (memory.counts().bytes < bytes) std::this_thread::yield();
}

void WhatIsExpectedIsReadAhead() {
  Checkpoint checkpoint(0);
  Separate experts(checkpoint, 8);
  const auto store = checkpoint.Open();
  const std::vector<ExpertRefs> first = Separate::Of(*store, 0, 4), second = Separate::Of(*store, 12, 4);
  // A quarter of what is beside the experts of one layer: two pieces of memory for what is read ahead.
  const int64_t slot = std::max(SlotBytes(*store, first), SlotBytes(*store, second));
  ExpertMemory memory(store, {.max_bytes = 12 * slot});
  ExpertMemory::Layer& a = memory.Require(first);
  ExpertMemory::Layer& b = memory.Require(second);
  const auto bytes_of = [&](const ExpertRefs& refs) {
    const ExpertLayout layout(*store, refs);
    int64_t bytes = 0;
    for (const auto& stretch : layout.stretches()) bytes += static_cast<int64_t>(stretch.bytes);
    return bytes;
  };
  WantAndExpect(memory, a, {0}, b, {2, 1, 3});
  const int64_t read = bytes_of(first[0]) + bytes_of(second[2]) + bytes_of(second[1]);
  AwaitBytes(memory, read);
  {
    const std::vector<int32_t> wanted = {0, 1};
    ExpertMemory::Lease lease(memory, b, wanted.data(), 2);
    EXPECT(lease.groups() == 1 && lease.group()[0] == 1, "nobody expected expert 0");
    EXPECT(lease.group()[1] == 0, "expert 1 is there");
    EXPECT(Same(lease.experts()[1], InPlace(second[1])), "and is what its file holds");
  }
  ResidencyCounts counts = memory.counts();
  EXPECT(counts.fetches == 3 && counts.hits == 0, "it was brought all the same");
  EXPECT(counts.ahead == 2 && counts.ahead_wanted == 1, "%lld of %lld were wanted",
         static_cast<long long>(counts.ahead_wanted), static_cast<long long>(counts.ahead));
  EXPECT(counts.bytes == read + bytes_of(second[0]), "there was room for two");
  // What was wrong once may be right next time.
  EXPECT(Want(memory, b, {2}).bytes == counts.bytes, "nothing is read again");
  EXPECT(memory.counts().ahead_wanted == 2, "expert 2 was right in the end");
}

// Whatever is expected, everybody gets what he wants.
void WrongGuessesChangeNothing() {
  Checkpoint checkpoint(1234);
  constexpr int32_t kLayers = 3, kExperts = 6;
  Separate experts(checkpoint, kLayers * kExperts);
  const auto store = checkpoint.Open();
  std::vector<std::vector<ExpertRefs>> refs;
  int64_t slot = 0;
  for (int64_t layer = 0; layer < kLayers; layer++) {
    refs.push_back(Separate::Of(*store, 3 * layer * kExperts, kExperts));
    slot = std::max(slot, SlotBytes(*store, refs.back()));
  }
  ExpertMemory memory(store, {.max_bytes = 12 * slot});
  std::vector<ExpertMemory::Layer*> layers;
  for (const auto& layer : refs) layers.push_back(&memory.Require(layer));
  std::mt19937 random(3);
  const auto draw = [&](size_t count) {
    std::vector<int32_t> drawn;
    for (size_t i = 0; i < count; i++) drawn.push_back(static_cast<int32_t>(random() % kExperts));
    return drawn;
  };
  for (int round = 0; round < 300; round++) {
    const size_t layer = random() % kLayers;
    const std::vector<int32_t> wanted = draw(1 + random() % 3), expected = draw(random() % 6);
    ExpertMemory::Lease lease(memory, *layers[layer], wanted.data(), static_cast<int64_t>(wanted.size()));
    lease.Expect(*layers[random() % kLayers], expected.data(), static_cast<int64_t>(expected.size()));
    ArriveAll(lease);
    for (const int32_t e : wanted)
      EXPECT(Same(lease.experts()[e], InPlace(refs[layer][static_cast<size_t>(e)])), "round %d: expert %d",
             round, e);
  }
  const ResidencyCounts counts = memory.counts();
  EXPECT(counts.ahead >= counts.ahead_wanted, "no more are right than were guessed");
}

void TooLittleIsRefused() {
  Checkpoint checkpoint(0);
  Separate experts(checkpoint, 4);
  const auto store = checkpoint.Open();
  ExpertMemory memory(store, {.max_bytes = 4000, .other_bytes = 100});
  memory.Require(Separate::Of(*store, 0, 4));
  std::string message;
  try {
    memory.Open();
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  EXPECT(message.rfind("maxMemory allows", 0) == 0, "%s", message.c_str());
}

void WhatStaysStays() {
  Checkpoint checkpoint(0);
  Separate experts(checkpoint, 8);
  const auto store = checkpoint.Open();
  const std::vector<ExpertRefs> refs = Separate::Of(*store, 0, 2), others = Separate::Of(*store, 6, 6);
  ExpertMemory memory(store, {.max_bytes = 8 * 16384});
  ExpertMemory::Layer& a = memory.Require(refs);
  ExpertMemory::Layer& b = memory.Require(others);
  std::atomic<bool> stop{true};
  EXPECT(memory.Pin({{4, 1}}, 0, stop) == 0, "none once it is to end");
  stop = false;
  EXPECT(memory.Pin({{1, 0}}, 1, stop) == 0, "a bound below an expert");
  // The gate of expert 1 of the first layer.
  EXPECT(memory.Pin({{4, 1}, {4, 1}}, 0, stop) == 1, "twice is once");
  for (int round = 0; round < 3; round++) Want(memory, b, {0, 1, 2, 3, 4, 5});
  const int64_t before = memory.counts().fetches;
  EXPECT(Want(memory, a, {1}).fetches == before, "it has not given way");
  EXPECT(memory.counts().pinned == 1 && memory.counts().pinned_hits == 1, "and is counted");
}

void AFileThatIsCutShort() {
  Checkpoint checkpoint(0);
  Separate experts(checkpoint, 12);
  const auto store = checkpoint.Open();
  ExpertMemory memory(store, {.max_bytes = int64_t{1} << 30});
  ExpertMemory::Layer& layer = memory.Require(Separate::Of(*store, 0, 12));
  Want(memory, layer, {0});
  checkpoint.CutTo(10'000);
  for (int round = 0; round < 2; round++) {
    std::string message;
    try {
      Want(memory, layer, {0, 11});
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT(message.find("experts.") != std::string::npos && message.find("ends at byte") != std::string::npos,
           "round %d: %s", round, message.c_str());
  }
  EXPECT(memory.counts().fetches == 1, "what could not be read does not count");
  // Nobody asks how it went.
  const int32_t last = 11;
  { const ExpertMemory::Lease lease(memory, layer, &last, 1); }
  EXPECT(Want(memory, layer, {0}).hits == 3, "others are there as before");
  // A guess that could not be read fails who wants it, and nobody else.
  for (int round = 0; round < 2; round++) {
    WantAndExpect(memory, layer, {0}, layer, {11});
    EXPECT(Want(memory, layer, {0}).fetches == 1, "round %d: no harm is done", round);
    std::string message;
    try {
      WantAndExpect(memory, layer, {0}, layer, {11});
      Want(memory, layer, {11});
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    EXPECT(message.find("ends at byte") != std::string::npos, "round %d: %s", round, message.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"matrices of their own", MatricesOfTheirOwn},
                        {"parts of one tensor", PartsOfOneTensor},
                        {"codes of several matrices", CodesOfSeveralMatrices},
                        {"many arrive in groups", ManyArriveInGroups},
                        {"the least used give way", TheLeastUsedGiveWay},
                        {"what is expected is read ahead", WhatIsExpectedIsReadAhead},
                        {"wrong guesses change nothing", WrongGuessesChangeNothing},
                        {"too little is refused", TooLittleIsRefused},
                        {"what stays stays", WhatStaysStays},
                        {"a file that is cut short", AFileThatIsCutShort}});
}
