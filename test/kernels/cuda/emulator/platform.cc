// kernels/ops/cuda/platform.h for the emulation: nodes of the CPU's provider share its memory, and a recorded
// run is replayed by running it again. Recording runs those nodes too, but, as on a card, no kernel and no
// copy.
#include "../../../../kernels/devices/cuda/platform.h"

#include <cuda_runtime.h>

namespace switchyard::ops {
namespace {

class RepeatedRun final : public CapturedRun {
 public:
  explicit RepeatedRun(std::function<void()> run) : run_(std::move(run)) {}
  void Launch() override { run_(); }

 private:
  std::function<void()> run_;
};

class Recording {
 public:
  Recording() { emulator::recording = true; }
  ~Recording() { emulator::recording = false; }
};

}  // namespace

const char* ProviderName() { return nullptr; }
const char* MemoryName() { return nullptr; }

std::unique_ptr<CapturedRun> CaptureOnStream(cudaStream_t, const std::function<void()>& run) {
  const Recording recording;
  run();
  return std::make_unique<RepeatedRun>(run);
}

}  // namespace switchyard::ops
