// Op CachedAttention on a GPU: inputs and attributes as on the CPU; the cache is of the session's element
// type.
#pragma once
#include <string>

#include "gpu_ops.h"

namespace switchyard::ops {

// Rows, lengths and tables are read on the device alone, so a captured run replays with any of them. What
// they say is not checked there: a row that does not fit its table gets zeros instead of an error, and blocks
// that the pool does not have are neither read nor written.
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
