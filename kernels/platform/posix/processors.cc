#include "../processors.h"

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace switchyard::platform {

int PhysicalCores() { return 0; }

int UsableProcessors() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

#if defined(__x86_64__) && defined(__linux__)

// Linux has this since 5.16; it refuses where a thread's stack for signals is too small.
bool AllowMatrixTiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#else

// macOS runs on no such processor.
bool AllowMatrixTiles() { return false; }

#endif

#if defined(__aarch64__) && defined(__linux__)

ArmFeatures FindArmFeatures() {
  // The second word came with Linux 5.10; older ones leave this bit off.
  constexpr unsigned long kI8mm = 1ul << 13;
  return {(getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0, (getauxval(AT_HWCAP2) & kI8mm) != 0};
}

#elif defined(__aarch64__) && defined(__APPLE__)

ArmFeatures FindArmFeatures() {
  const auto has = [](const char* name) {
    int value = 0;
    size_t size = sizeof(value);
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  return {has("hw.optional.arm.FEAT_DotProd"), has("hw.optional.arm.FEAT_I8MM")};
}

#else

ArmFeatures FindArmFeatures() { return {}; }

#endif

}  // namespace switchyard::platform
