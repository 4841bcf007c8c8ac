// The JavaScript class WeightStore.
#pragma once
#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>

#include "../weights/expert_memory.h"
#include "../weights/weight_store.h"

namespace switchyard::binding {

// new WeightStore(files: string[], names: string[], fileIndex: Uint32Array, offsets: Float64Array,
//                 bytes: Float64Array, types: Int32Array, ranks: Int32Array, dims: Float64Array,
//                 quantizedNames: string[], quantized: Float64Array)
// One entry a tensor; `dims` holds all shapes one after another. Columns, because 20,000 objects would take a
// second. `quantized` holds a record of numbers for each quantized tensor, as
// src/runtime/quantized-records.ts writes it.
class WeightStoreObject : public Napi::ObjectWrap<WeightStoreObject> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit WeightStoreObject(const Napi::CallbackInfo& info);
  ~WeightStoreObject() override { *stop_reading_ = true; }

  // The open store. Throws after dispose().
  std::shared_ptr<const WeightStore> store(Napi::Env env) const;
  // Null where experts are not bounded.
  const std::shared_ptr<ExpertMemory>& experts() const { return experts_; }

 private:
  Napi::Value JsReadFloat32(const Napi::CallbackInfo& info);  // (handle) → Float32Array
  Napi::Value JsCheckScales(const Napi::CallbackInfo& info);  // (handles: Int32Array) → Promise<undefined>
  // (request: Float64Array) → Promise<{ codes, scales, zeros: Buffer }>
  Napi::Value JsRoundWeights(const Napi::CallbackInfo& info);
  void JsPrefetch(const Napi::CallbackInfo& info);  // (handles: Int32Array, copied: boolean)
  // (slices: Int32Array of handle, index, count each) → Promise<{ locked, read: bytes }>
  Napi::Value JsPin(const Napi::CallbackInfo& info);
  void JsBoundExperts(const Napi::CallbackInfo& info);  // (maxBytes, otherBytes), before sessions open
  Napi::Value JsPrepareExperts(const Napi::CallbackInfo& info);  // () → Promise<undefined>, once one is open
  // (pinned: Int32Array of handle and place each, maxBytes) → Promise<number>
  Napi::Value JsPinExperts(const Napi::CallbackInfo& info);
  Napi::Value JsExpertsStatus(const Napi::CallbackInfo& info);
  void JsDispose(const Napi::CallbackInfo& info);
  std::shared_ptr<ExpertMemory> BoundedExperts(Napi::Env env) const;
  // What a job that is cancelled calls.
  std::function<void()> StopReading() const;

  std::shared_ptr<const WeightStore> store_;
  std::shared_ptr<ExpertMemory> experts_;  // null: not bounded
  // Ends what is being read of this store ahead of its use: prefetches, pinned experts, checked scales.
  std::shared_ptr<std::atomic<bool>> stop_reading_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace switchyard::binding
