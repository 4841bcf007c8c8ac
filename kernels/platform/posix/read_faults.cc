#include "../read_faults.h"

#include <signal.h>

#include <cerrno>

namespace switchyard::platform {
namespace {

bool (*mend_read)(uintptr_t address) = nullptr;
struct sigaction previous;

void PassOn(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // Again, and now it ends the process: by the read itself, or sent anew where somebody sent it.
    sigaction(SIGBUS, &previous, nullptr);
    if (info->si_code <= 0) raise(SIGBUS);
  }
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  // A signal that somebody sent may find this thread in the middle of anything; only a fault has an address.
  const bool is_fault = info->si_code > 0;
  if (!is_fault || !mend_read(reinterpret_cast<uintptr_t>(info->si_addr))) PassOn(signal, info, context);
  errno = error;
}

}  // namespace

void HandleReadFaults(bool (*mend)(uintptr_t address)) {
  mend_read = mend;
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}

}  // namespace switchyard::platform
