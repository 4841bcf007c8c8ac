// Op CachedAttention on a GPU: inputs and attributes as on the CPU; the cache is of the session's element
// type.
#pragma once
#include <string>

#include "gpu_ops.h"

namespace switchyard::ops {

// With one new token a row nothing depends on what the host knows of positions, so a captured run replays at
// any of them: a row whose position lies outside the cache gets zeros instead of an error.
class GpuCachedAttention {
 public:
  static OpSchema Schema(DType dtype);
  GpuCachedAttention(const KernelInfo& info, GpuSession& session);
  void Compute(KernelContext& context);

 private:
  // Output `index` with the contents of input `past`.
  void* Present(KernelContext& context, size_t past, size_t index) const;
  DeviceMatrix RequireNorm(const StoredTensor* norm) const;

  GpuSession& session_;
  std::string node_;
  CachedAttentionAttributes attributes_;
  DeviceMatrix q_norm_, k_norm_;
};

}  // namespace switchyard::ops
