// Checks the copies of weights in row panels, which appear while others read.
#include "../../kernels/common/row_panels.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "../../kernels/weights/panel_copy.h"
#include "../../kernels/weights/prefetch.h"
#include "../../kernels/weights/weight_ref.h"
#include "cuda/testing.h"

namespace {

using namespace switchyard;

constexpr int32_t kBf16 = 16, kFp16 = 10;

// Tensors of bf16 that lie one after the other, `offset` bytes into a file; value i of the file is i * 40503.
class Checkpoint {
 public:
  explicit Checkpoint(std::vector<TensorEntry> entries, uint64_t offset = 6)
      : path_(std::filesystem::temp_directory_path() /
              ("row-panels." + std::to_string(getpid()) + "." + std::to_string(offset))) {
    uint64_t end = offset;
    for (TensorEntry& entry : entries) {
      entry.offset = end;
      entry.bytes = 2;
      for (const int64_t dim : entry.shape) entry.bytes *= static_cast<uint64_t>(dim);
      end += entry.bytes;
    }
    std::vector<uint16_t> values(end / 2);
    for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<uint16_t>(i * 40503u);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(end));
    store = WeightStore::Open({path_.string()}, entries);
  }
  ~Checkpoint() { std::filesystem::remove(path_); }

  std::shared_ptr<const WeightStore> store;

 private:
  std::filesystem::path path_;
};

uint16_t At(const std::byte* data, int64_t i) {
  uint16_t value;
  std::memcpy(&value, data + i * 2, sizeof(value));
  return value;
}

// Whether the panels hold what the rows do.
bool IsSame(const StoredTensor& tensor, const std::byte* panels) {
  const int64_t cols = tensor.shape.back(), rows = static_cast<int64_t>(tensor.bytes) / 2 / cols;
  for (int64_t n = 0; n < rows; n++) {
    const int64_t panel = n / kPanelRows * kPanelRows * cols;
    for (int64_t k = 0; k < cols; k++) {
      const int64_t place = panel + (k / 2 * kPanelRows + n % kPanelRows) * 2 + k % 2;
      if (At(panels, place) != At(tensor.data, n * cols + k)) return false;
    }
  }
  return true;
}

const std::byte* WaitFor(const StoredTensor& tensor) {
  for (int i = 0; i < 60'000 && tensor.panels->complete == nullptr; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return tensor.panels->complete;
}

void LaidOutWhileItIsRead() {
  Checkpoint checkpoint({{.name = "experts", .type = kBf16, .shape = {3, 64, 70}},
                         {.name = "long", .type = kBf16, .shape = {32, 30'002}}});
  std::atomic<bool> done{false};
  std::thread reader([&] {
    const std::byte* rows = checkpoint.store->Get(1).data;
    do EXPECT(At(rows, 500'000) == static_cast<uint16_t>((500'000u + 3 + 3 * 64 * 70) * 40503u), "a row");
    while (!done);
  });
  for (int64_t handle : {0, 1}) checkpoint.store->Get(handle).panels->wanted = true;
  StartPrefetch(checkpoint.store, {0, 1}, WeightPages::kCopied, std::make_shared<std::atomic<bool>>(false));
  for (int64_t handle : {0, 1}) {
    const StoredTensor& tensor = checkpoint.store->Get(handle);
    const std::byte* panels = WaitFor(tensor);
    EXPECT(panels != nullptr, "they are complete");
    EXPECT(panels != tensor.data && IsSame(tensor, panels), "all values");
  }
  done = true;
  reader.join();
}

void OnlyWhatIsWanted() {
  Checkpoint checkpoint({{.name = "unwanted", .type = kBf16, .shape = {32, 4}},
                         {.name = "wanted", .type = kBf16, .shape = {64, 6}},
                         {.name = "odd rows", .type = kBf16, .shape = {33, 4}},
                         {.name = "odd depth", .type = kBf16, .shape = {32, 5}},
                         {.name = "fp16", .type = kFp16, .shape = {32, 4}},
                         {.name = "vector", .type = kBf16, .shape = {64}}},
                        0);
  const auto& store = checkpoint.store;
  for (int64_t handle = 2; handle < store->size(); handle++)
    EXPECT(store->Get(handle).panels == nullptr, "%s", store->Get(handle).name.c_str());
  store->Get(1).panels->wanted = true;
  const auto stop = std::make_shared<std::atomic<bool>>(false);
  StartPrefetch(store, {0, 2, 3, 4, 5}, WeightPages::kCopied, stop);
  StartPrefetch(store, {1}, WeightPages::kMapped, stop);
  EXPECT(store->Get(1).panels->complete == nullptr, "what is to stay mapped");
  StartPrefetch(store, {0, 1}, WeightPages::kCopied, stop);
  EXPECT(IsSame(store->Get(1), WaitFor(store->Get(1))), "the wanted one");
  EXPECT(store->Get(0).panels->complete == nullptr, "the unwanted one");
}

void EndsEarly() {
  Checkpoint checkpoint({{.name = "one", .type = kBf16, .shape = {64, 64}}});
  const StoredTensor& tensor = checkpoint.store->Get(0);
  std::byte* memory = checkpoint.store->TakeMemory(tensor.bytes);
  CopyIntoPanels(tensor, memory, std::atomic<bool>(true));
  EXPECT(tensor.panels->complete == nullptr, "rows go on being read");
  CopyIntoPanels(tensor, memory, std::atomic<bool>(false));
  EXPECT(tensor.panels->complete == memory && IsSame(tensor, memory), "afterwards");
}

// Which parts of a tensor products read from panels, and where.
void WhereProductsMayBegin() {
  Checkpoint checkpoint({{.name = "fused", .type = kBf16, .shape = {2, 128, 6}}});
  const StoredTensor& tensor = checkpoint.store->Get(0);
  const auto part = [&](int64_t first_row, int64_t rows, int64_t first_col, int64_t cols, bool transposed) {
    return WeightRef{&tensor, first_row, first_col, rows, cols, 6, transposed};
  };
  EXPECT(InPanels(part(16, 32, 0, 6, false)).panels == nullptr, "amid a panel");
  EXPECT(InPanels(part(0, 16, 0, 6, false)).panels == nullptr, "a part of a panel");
  EXPECT(InPanels(part(0, 32, 0, 4, false)).panels == nullptr, "some columns");
  EXPECT(InPanels(part(0, 6, 0, 32, true)).panels == nullptr, "columns as rows");
  EXPECT(InPanels({}).panels == nullptr, "no weight");
  EXPECT(!tensor.panels->wanted, "nobody wants them yet");
  const WeightMatrix up = InPanels(part(192, 64, 0, 6, false));
  EXPECT(up.panels == tensor.panels && up.panels_at == 192 * 6 * 2, "the second half of the second matrix");
  EXPECT(up.data == tensor.data + 192 * 6 * 2, "its rows");
  EXPECT(tensor.panels->wanted, "somebody wants them");
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"laid out while it is read", LaidOutWhileItIsRead},
                        {"only what is wanted, and is whole panels", OnlyWhatIsWanted},
                        {"ends early", EndsEarly},
                        {"where products may begin", WhereProductsMayBegin}});
}
