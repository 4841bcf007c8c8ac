// What GCC 12's libstdc++.a takes from a glibc newer than the oldest that a release is to run on. Linked into release builds only, and
// seen by nobody outside of the file.
#include <pthread.h>
#include <time.h>

#define SHIM extern "C" __attribute__((visibility("hidden")))

namespace {

constexpr long kNanosecondsPerSecond = 1'000'000'000;

timespec Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now;
}

}  // namespace

// glibc 2.32: whether atomic operations may be left out. False is always right.
SHIM char __libc_single_threaded;
char __libc_single_threaded = 0;

// glibc 2.30: waits by the clock that `until` is told in. The wait below knows the clock of the condition variable, CLOCK_REALTIME, only,
// so `until` is moved to it.
SHIM int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  const timespec there = Now(clock);
  const timespec here = Now(CLOCK_REALTIME);
  timespec moved{until->tv_sec - there.tv_sec + here.tv_sec, until->tv_nsec - there.tv_nsec + here.tv_nsec};
  while (moved.tv_nsec < 0) {
    moved.tv_nsec += kNanosecondsPerSecond;
    moved.tv_sec -= 1;
  }
  while (moved.tv_nsec >= kNanosecondsPerSecond) {
    moved.tv_nsec -= kNanosecondsPerSecond;
    moved.tv_sec += 1;
  }
  return pthread_cond_timedwait(condition, mutex, &moved);
}
