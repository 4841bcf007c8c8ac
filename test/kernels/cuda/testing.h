// What the native tests share: named cases chosen on the command line, checks that print and count, and
// random numbers.
#pragma once
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace testing {

inline int failures = 0;

#define EXPECT(condition, ...)                                             \
  do {                                                                     \
    if (!(condition) && ++testing::failures <= 10) {                       \
      std::printf("%s:%d: %s is false: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                            \
      std::printf("\n");                                                   \
    }                                                                      \
  } while (0)

using Case = std::pair<const char*, void (*)()>;

// Runs the case named by the only argument; lists the cases without one.
inline int Main(int argc, char** argv, const std::vector<Case>& cases) {
  for (const auto& [name, run] : cases) {
    if (argc < 2) std::printf("%s\n", name);
    if (argc < 2 || std::strcmp(name, argv[1]) != 0) continue;
    run();
    return failures == 0 ? 0 : 1;
  }
  return argc < 2 ? 0 : 2;
}

inline std::mt19937& Random() {
  static std::mt19937 generator(20240229);
  return generator;
}
inline int RandomInt(int low, int high) { return std::uniform_int_distribution<int>(low, high)(Random()); }
inline float RandomFloat() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(Random()); }

// Expert choices of `tokens` tokens, top_k different ones each.
enum class Routing { kRandom, kSkewed, kSameForAll, kFewOfMany };
inline std::vector<int> Route(Routing routing, int tokens, int top_k, int experts) {
  std::vector<int> indices;
  for (int t = 0; t < tokens; ++t) {
    std::vector<int> chosen;
    while (static_cast<int>(chosen.size()) < top_k) {
      int e = RandomInt(0, experts - 1);
      if (routing == Routing::kSkewed) e = std::min(e, RandomInt(0, experts - 1));
      if (routing == Routing::kSameForAll) e = experts - 1 - static_cast<int>(chosen.size());
      if (routing == Routing::kFewOfMany) e = RandomInt(0, std::min(experts, top_k + 1) - 1);
      bool fresh = true;
      for (const int other : chosen) fresh = fresh && other != e;
      if (fresh) chosen.push_back(e);
    }
    indices.insert(indices.end(), chosen.begin(), chosen.end());
  }
  return indices;
}

}  // namespace testing
