// Keys and values appended to a cache in place.
#include <cmath>
#include <cstring>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/kernels.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

// Values go to their places and nowhere else, rounded to the cache's type, rotated or as they are.
void CacheAppends() {
  Random random(30);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const DType dtype : kAllDTypes) {
      for (const int64_t tokens : {1, 9, 300}) {
        const int64_t heads = 3, dim = 22, pairs = random.Int(0, 11), positions = tokens + 5,
                      size = DTypeSize(dtype);
        const std::vector<float> x = random.Normals(tokens * heads * dim), norm = random.Normals(dim);
        const std::vector<float> cos = random.Normals(tokens * pairs), sin = random.Normals(tokens * pairs);
        const HeadRotation rotation = {norm.data(), 0.01f, cos.data(), sin.data(), pairs};
        // [heads, positions, dim], filled from its end.
        std::vector<int64_t> places;
        for (int64_t t = 0; t < tokens; ++t) places.push_back((positions - 1 - t) * dim);
        std::vector<float> rotated(x.size());
        TestPool pool(3);
        Rotary({x.data(), rotated.data(), tokens, heads, dim, rotation}, pool);
        for (const bool rotates : {false, true}) {
          std::vector<char> cache(static_cast<size_t>(heads * positions * dim * size), 0x55);
          const std::vector<char> before(static_cast<size_t>(size), 0x55);
          CacheAppend({x.data(), cache.data(), dtype, places.data(), positions * dim, tokens, heads, dim,
                       rotates ? &rotation : nullptr},
                      workspace, pool);
          for (int64_t i = 0; i < heads * positions * dim; ++i) {
            const int64_t token = positions - 1 - i / dim % positions, head = i / dim / positions;
            std::vector<char> expected = before;
            if (token < tokens) {
              const std::vector<float>& from = rotates ? rotated : x;
              Kernels().narrow[DTypeIndex(dtype)](
                  &from[static_cast<size_t>((token * heads + head) * dim + i % dim)], 1, expected.data());
            }
            if (std::memcmp(expected.data(), cache.data() + i * size, static_cast<size_t>(size)) == 0)
              continue;
            Fail("[%s] CacheAppend, dtype %d, %lld tokens, rotates %d: value %lld", isa,
                 static_cast<int>(dtype), static_cast<long long>(tokens), rotates, static_cast<long long>(i));
            break;
          }
        }
      }
    }
  }
}

}  // namespace

std::vector<Group> CacheAppendGroups() {
  return {
      {"caches are appended to in place", CacheAppends},
  };
}

}  // namespace switchyard::cpu
