// What the emulation finds wrong with kernels that may start before the one before them has ended.
#include <fcntl.h>
#include <sys/wait.h>

#include "emulated.h"

namespace {

using namespace switchyard::cuda;

constexpr int kThreads = 64;

// Threads from `waiting` on end without having waited.
void store_kernel(int* out, int waiting) {
  if (static_cast<int>(threadIdx.x) < waiting) WaitForPrevious();
  out[threadIdx.x] = 1;
}

// How a process ends that launches it.
int ExitOf(int waiting, bool dependent) {
  std::vector<int> out(kThreads);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    const dim3 grid(1), block(kThreads);
    const cudaError_t status =
        dependent ? LaunchDependentKernel(store_kernel, grid, block, 0, nullptr, out.data(), waiting)
                  : LaunchKernel(store_kernel, grid, block, 0, nullptr, out.data(), waiting);
    _exit(status == cudaSuccess && out.back() == 1 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

void DependentKernelsHaveToWait() {
  EXPECT(ExitOf(kThreads, true) == 0, "all threads wait");
  EXPECT(ExitOf(kThreads - 1, true) == 3, "a thread does not wait");
  EXPECT(ExitOf(0, false) == 0, "nobody has to wait");
}
