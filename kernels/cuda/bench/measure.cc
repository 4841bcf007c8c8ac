// Timing with events, and the card's own ceilings.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

constexpr int kWarmUps = 5;
constexpr int kFewestRuns = 11;
constexpr int kMostRuns = 101;
double budget_microseconds = 200e3;  // of one measurement

class Event {
 public:
  Event() { CHECK_CUDA(cudaEventCreate(&event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

double TimeOnce(cudaStream_t stream, const std::function<void(int)>& call, int index) {
  const Event begin, end;
  CHECK_CUDA(cudaEventRecord(begin, stream));
  call(index);
  CHECK_CUDA(cudaEventRecord(end, stream));
  CHECK_CUDA(cudaEventSynchronize(end));
  float milliseconds = 0.0f;
  CHECK_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
  return milliseconds * 1e3;
}

}  // namespace

void SetMeasurementBudget(int milliseconds) { budget_microseconds = 1e3 * milliseconds; }

double MedianMicroseconds(cudaStream_t stream, const std::function<void(int)>& call) {
  for (int i = 0; i < kWarmUps; ++i) call(i);
  CHECK_CUDA(cudaStreamSynchronize(stream));
  const double once = TimeOnce(stream, call, 0);
  const int runs =
      std::clamp(static_cast<int>(budget_microseconds / std::max(once, 1.0)), kFewestRuns, kMostRuns);
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) times.push_back(TimeOnce(stream, call, i));
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[runs / 2];
}

double MedianGraphMicroseconds(cudaStream_t stream, int calls, const std::function<void(int)>& call) {
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call(i);
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t executable = nullptr;
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  const double time =
      MedianMicroseconds(stream, [&](int) { CHECK_CUDA(cudaGraphLaunch(executable, stream)); });
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  CHECK_CUDA(cudaGraphDestroy(graph));
  return time / calls;
}

double MeasureCopyRate(cudaStream_t stream) {
  const size_t bytes = size_t{1} << 30;
  const DeviceBuffer from = RandomBuffer(DType::kFloat32, bytes / sizeof(float), 1.0f, 7);
  const DeviceBuffer to(bytes);
  const double time = MedianMicroseconds(stream, [&](int) {
    CHECK_CUDA(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream));
  });
  return 2.0 * static_cast<double>(bytes) / time * 1e-3;
}

double MeasureUploadRate(cudaStream_t stream) {
  const size_t bytes = size_t{256} << 20;
  void* from = nullptr;
  CHECK_CUDA(cudaHostAlloc(&from, bytes, cudaHostAllocDefault));
  std::memset(from, 1, bytes);
  const DeviceBuffer to(bytes);
  const double time = MedianMicroseconds(stream, [&](int) {
    CHECK_CUDA(cudaMemcpyAsync(to.data(), from, bytes, cudaMemcpyHostToDevice, stream));
  });
  CHECK_CUDA(cudaFreeHost(from));
  return static_cast<double>(bytes) / time * 1e-3;
}

double MeasureMatrixRate(GemmContext& gemm, cudaStream_t stream) {
  if (!GemmUsesCublasLt()) return 0.0;
  const int64_t size = 8192;
  const DeviceBuffer a = RandomBuffer(DType::kBFloat16, size * size, 1.0f, 8);
  const DeviceBuffer w = RandomBuffer(DType::kBFloat16, size * size, 1.0f, 9);
  const DeviceBuffer out(size * size * 2);
  LinearArgs args;
  args.m = args.n = args.k = args.a_stride = args.w_stride = args.out_stride = size;
  args.a = a.data();
  args.w = w.data();
  args.out = out.data();
  const double time = MedianMicroseconds(stream, [&](int) { CHECK_CUDA(LaunchLinear(gemm, args, stream)); });
  return 2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size) / time *
         1e-6;
}

double RelativeError(const std::vector<float>& out, const std::vector<float>& reference) {
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    if (!std::isfinite(out[i])) return std::numeric_limits<double>::infinity();
    difference += (double{out[i]} - reference[i]) * (double{out[i]} - reference[i]);
    norm += double{reference[i]} * reference[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace switchyard::cuda::bench
