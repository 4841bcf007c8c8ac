#include "platform.h"

#include <stdexcept>

#include "device.h"

namespace switchyard::ops {
namespace {

class CudaGraphRun final : public CapturedRun {
 public:
  CudaGraphRun(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    CheckCuda(status, "preparing a captured run");
  }
  ~CudaGraphRun() override { cudaGraphExecDestroy(executable_); }
  void Launch() override { CheckCuda(cudaGraphLaunch(executable_, stream_), "replaying a captured run"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

const char* ProviderName() { return "CUDAExecutionProvider"; }
const char* MemoryName() { return "Cuda"; }

std::unique_ptr<CapturedRun> CaptureOnStream(cudaStream_t stream, const std::function<void()>& run) {
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "beginning a capture");
  cudaGraph_t graph = nullptr;
  try {
    run();
  } catch (...) {
    // The stream must leave its capture, whatever came of it.
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  CheckCuda(cudaStreamEndCapture(stream, &graph), "ending a capture");
  if (graph == nullptr) throw std::runtime_error("the capture recorded nothing");
  return std::make_unique<CudaGraphRun>(stream, graph);
}

}  // namespace switchyard::ops
