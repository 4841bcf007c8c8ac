// Threads, as many as the system grants.
#pragma once
#include <exception>
#include <thread>
#include <vector>

namespace switchyard {

// Starts up to `count` threads; fewer where a limit of the user, the container or the machine is reached, or
// memory is short.
template <typename Body>
std::vector<std::thread> StartThreads(int count, const Body& body) {
  std::vector<std::thread> threads;
  threads.reserve(count > 0 ? static_cast<size_t>(count) : 0);
  try {
    while (static_cast<int>(threads.size()) < count) threads.emplace_back(body);
  } catch (const std::exception&) {
    // Those that have started do.
  }
  return threads;
}

}  // namespace switchyard
