// The weights of a model on a GPU: dense ones stay, experts stay or share a pool.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"
#include "expert_layer.h"
#include "expert_pool.h"
#include "tensors.h"

namespace switchyard::ops {

class CudaStore final : public DeviceStore {
 public:
  CudaStore(std::shared_ptr<CudaDevice> device, std::shared_ptr<const WeightStore> store, DType dtype,
            StoreLimits limits);
  ~CudaStore() override;

  const WeightStore& weights() const { return *store_; }
  DType dtype() const { return dtype_; }

  // While a session opens: what an op will need. It arrives with the next Upload. Sessions that name the same
  // experts share a layer.
  DeviceWeight Require(const WeightRef& ref, WeightForm form = WeightForm::kElements) {
    return tensors_.Require(ref, form);
  }
  ExpertLayer& RequireExperts(const MoeExperts& op);

  // While a session opens: that its runs read tables where the host maps them.
  void NoteRowsOnHost() { reads_files_ = true; }

  // Before a launch: brings the experts that `count` indices on the device name, unless all stay. The caller
  // holds the device's run_mutex.
  void Prepare(ExpertLayer& layer, const int32_t* indices, int64_t count) {
    if (pool_ != nullptr) pool_->Bring(layer, indices, count);
  }

  bool Anticipate(const std::vector<int64_t>& handles) override;
  void Upload(const std::function<bool(int64_t, int64_t)>& progress) override;
  int64_t resident_bytes() const override { return resident_bytes_; }
  ResidencyCounts counts() const override;
  bool reads_files() const override { return reads_files_; }

 private:
  std::vector<ExpertLayer*> Unplaced();
  void MakePool(int64_t dense_bytes);
  void Pin(const std::vector<ExpertLayer*>& layers);
  void Allocate(const std::vector<DeviceTensor*>& tensors, int64_t bytes);
  void Place(ExpertLayer& layer);

  std::shared_ptr<CudaDevice> device_;
  std::shared_ptr<const WeightStore> store_;
  DType dtype_;
  StoreLimits limits_;
  std::mutex upload_mutex_;  // one upload at a time
  DeviceTensors tensors_;
  // Of the next two, and of whether layers are placed. Whoever holds it waits for nothing else, as the
  // tensors' lock.
  mutable std::mutex mutex_;
  std::map<std::vector<ExpertRefs>, std::unique_ptr<ExpertLayer>> layers_;
  int64_t num_experts_ = 0;                 // of all layers
  std::atomic<int64_t> resident_bytes_{0};  // read by any thread
  std::atomic<bool> reads_files_{false};
  std::vector<void*> memory_;
  std::unique_ptr<ExpertPool> pool_;  // null: all experts stay
  int64_t most_pinned_ = 0;           // that leave slots for the experts of any layer
};

}  // namespace switchyard::ops
