// The weights of a model on a GPU.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../ops/op_attributes.h"
#include "../../weights/residency.h"
#include "device.h"
#include "stager.h"

namespace switchyard::ops {

// A tensor that stays on the GPU; has an address once it was uploaded.
struct DeviceTensor {
  const StoredTensor* source = nullptr;
  int64_t elements = 0;
  void* data = nullptr;
};

// A matrix of an op: part of such a tensor.
struct DeviceMatrix {
  const DeviceTensor* tensor = nullptr;  // null for an empty matrix
  int64_t first = 0;                     // element of the tensor
  WeightMatrix shape;                    // its `data` is the host's
  const void* Data(DType dtype) const;
};

// The experts of one layer. Either all stay on the GPU, or each is in a slot of the store's pool while it is
// there at all.
class ExpertLayer {
 public:
  const cuda::ExpertTable& table() const { return table_; }

 private:
  friend class CudaStore;
  // Elements side by side in the file, and where in a slot they go.
  struct Block {
    const StoredTensor* source;
    int64_t first, count;
    int64_t offset;  // bytes from the start of the slot
  };
  struct Expert {
    DeviceMatrix gate, up, down;                  // where all stay
    std::vector<Block> blocks;                    // where they come and go
    int64_t gate_offset, up_offset, down_offset;  // bytes from the start of the slot
  };
  cuda::ExpertTable table_;
  std::vector<Expert> experts_;
  int64_t slot_bytes_ = 0;
  int64_t first_number_ = 0;  // number of expert 0 among all experts of the store
  bool placed_ = false;
  std::vector<const void*> pointers_;  // gate, up, down of every expert
  void* device_pointers_ = nullptr;
};

class CudaStore final : public DeviceStore {
 public:
  CudaStore(std::shared_ptr<CudaDevice> device, std::shared_ptr<const WeightStore> store, DType dtype,
            int64_t max_bytes);
  ~CudaStore() override;

  const WeightStore& weights() const { return *store_; }
  DType dtype() const { return dtype_; }

  // While a session opens: what an op will need. Tensors arrive with the next Upload.
  DeviceMatrix Require(const WeightMatrix& matrix);
  ExpertLayer& RequireExperts(const MoeExpertsAttributes& attributes);

  // Before a launch: brings the experts that `count` indices on the device name, unless all stay. The caller
  // holds the device's run_mutex.
  void Prepare(ExpertLayer& layer, const int32_t* indices, int64_t count);

  void Upload(const std::function<bool(int64_t, int64_t)>& progress) override;
  int64_t resident_bytes() const override { return resident_bytes_; }
  ResidencyCounts counts() const override { return {hits_, fetches_, fetched_bytes_}; }

 private:
  struct Place {
    const StoredTensor* tensor;
    int64_t first;  // element
  };
  Place Locate(const void* data) const;
  void DescribeSlot(ExpertLayer& layer);
  int64_t BytesOf(const DeviceTensor& tensor) const;
  int64_t BytesOf(const std::vector<DeviceTensor*>& tensors) const;
  std::vector<DeviceTensor*> Pending();
  std::vector<ExpertLayer*> Unplaced();
  void MakePool(int64_t dense_bytes);
  void Allocate(const std::vector<DeviceTensor*>& tensors, int64_t bytes);
  void Transport(const std::vector<Transfer>& transfers,
                 const std::function<bool(int64_t, int64_t)>& progress);
  void PlaceLayer(ExpertLayer& layer);
  void Fetch(const ExpertLayer& layer, const std::vector<Residency::Fetch>& fetches);
  void SendPointers(ExpertLayer& layer);

  std::shared_ptr<CudaDevice> device_;
  std::shared_ptr<const WeightStore> store_;
  DType dtype_;
  int64_t max_bytes_;
  std::map<const std::byte*, const StoredTensor*> by_address_;  // the longest where several begin
  std::mutex upload_mutex_;                                     // one upload at a time
  // Of the next three. Whoever holds it waits for nothing else: a session that opens wants it while it holds
  // the device's run_mutex.
  std::mutex mutex_;
  std::map<const std::byte*, std::unique_ptr<DeviceTensor>> tensors_;
  std::map<std::vector<const void*>, std::unique_ptr<ExpertLayer>> layers_;  // by their matrices
  int64_t num_experts_ = 0;                                                  // of all layers
  // Read by any thread, as the counts below.
  std::atomic<int64_t> resident_bytes_{0};
  std::vector<void*> memory_;
  // The pool, where experts come and go.
  std::unique_ptr<Residency> residency_;
  std::unique_ptr<Stager> stager_;
  std::byte* slots_ = nullptr;
  int64_t slot_bytes_ = 0;
  std::atomic<int64_t> hits_{0}, fetches_{0}, fetched_bytes_{0};
};

}  // namespace switchyard::ops
