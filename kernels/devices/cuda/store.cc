#include "store.h"

#include <algorithm>
#include <stdexcept>

#include "upload.h"

namespace switchyard::ops {

CudaStore::CudaStore(std::shared_ptr<CudaDevice> device, std::shared_ptr<const WeightStore> store,
                     DType dtype, StoreLimits limits)
    : device_(std::move(device)),
      store_(std::move(store)),
      dtype_(dtype),
      limits_(std::move(limits)),
      tensors_(dtype) {}

CudaStore::~CudaStore() {
  // Nothing throws from here: the device may be gone already.
  cudaSetDevice(device_->index());
  cudaStreamSynchronize(device_->cuda_stream());
  pool_ = nullptr;
  for (void* memory : memory_) cudaFree(memory);
}

ResidencyCounts CudaStore::counts() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pool_ == nullptr ? ResidencyCounts() : pool_->counts();
}

ExpertLayer& CudaStore::RequireExperts(const MoeExperts& op) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (const auto known = layers_.find(op.experts); known != layers_.end()) return *known->second;
  auto layer = std::make_unique<ExpertLayer>(op, dtype_, num_experts_);
  num_experts_ += op.num_experts;
  return *layers_.emplace(op.experts, std::move(layer)).first->second;
}

std::vector<ExpertLayer*> CudaStore::Unplaced() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<ExpertLayer*> layers;
  for (auto& [experts, layer] : layers_) {
    if (!layer->placed()) layers.push_back(layer.get());
  }
  return layers;
}

// Within a bound, all that is needed has to be known first; ops decide in which form a quantized tensor
// comes.
bool CudaStore::Anticipate(const std::vector<int64_t>& handles) {
  if (limits_.max_bytes > 0) return false;
  std::vector<WeightRef> whole;
  for (const int64_t handle : handles) {
    const StoredTensor& tensor = store_->Get(handle);
    if (tensor.quantized != nullptr) return false;
    const int64_t elements = static_cast<int64_t>(tensor.bytes) / DTypeSize(static_cast<DType>(tensor.type));
    whole.push_back({.values = &tensor, .rows = 1, .cols = elements, .stride = elements});
  }
  for (const WeightRef& ref : whole) Require(ref);
  return true;
}

void CudaStore::Upload(const std::function<bool(int64_t, int64_t)>& progress) {
  std::lock_guard<std::mutex> upload_lock(upload_mutex_);
  const std::vector<ExpertLayer*> layers = Unplaced();
  const int64_t dense_bytes = BytesOf(tensors_.Pending());
  int64_t expert_bytes = 0;
  for (const ExpertLayer* layer : layers) expert_bytes += layer->slot_bytes() * layer->count();
  const bool fits =
      limits_.max_bytes == 0 || resident_bytes_ + dense_bytes + expert_bytes <= limits_.max_bytes;
  if (!fits && pool_ == nullptr) MakePool(dense_bytes);
  if (pool_ == nullptr) {
    for (ExpertLayer* layer : layers) layer->Require(tensors_);
  }
  const std::vector<DeviceTensor*> tensors = tensors_.Pending();
  const int64_t bytes = BytesOf(tensors);
  Allocate(tensors, bytes);
  std::vector<Transfer> transfers;
  for (const DeviceTensor* tensor : tensors) {
    for (const Contents::Part& part : tensor->contents.parts) {
      transfers.push_back({.source = part.source.get(),
                           .first = 0,
                           .count = part.source->count(),
                           .to = static_cast<std::byte*>(tensor->data) + part.offset});
    }
  }
  try {
    ops::Upload(*device_, dtype_, transfers, progress);
    store_->CheckUnchanged();
  } catch (...) {
    for (DeviceTensor* tensor : tensors) tensor->data = nullptr;
    if (!tensors.empty()) {
      device_->Free(memory_.back());
      memory_.pop_back();
      resident_bytes_ -= bytes;
    }
    throw;
  }
  std::lock_guard<std::mutex> run_lock(device_->run_mutex());
  for (ExpertLayer* layer : layers) Place(*layer);
  if (pool_ != nullptr) Pin(layers);
}

void CudaStore::MakePool(int64_t dense_bytes) {
  int64_t largest_layer = 0, total = 0, slot_bytes = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    total = num_experts_;
    for (auto& [experts, layer] : layers_) {
      slot_bytes = std::max(slot_bytes, layer->slot_bytes());
      largest_layer = std::max(largest_layer, layer->count());
    }
  }
  const int64_t least = resident_bytes_ + dense_bytes + largest_layer * slot_bytes;
  if (least > limits_.max_bytes || total == 0) {
    throw std::runtime_error("maxMemory allows " + Gigabytes(limits_.max_bytes) +
                             " of weights on the GPU, but this model needs at least " + Gigabytes(least) +
                             " (" + std::to_string(least) +
                             " bytes): " + Gigabytes(resident_bytes_ + dense_bytes) +
                             " that always stay, and " + Gigabytes(largest_layer * slot_bytes) +
                             " for the experts of one layer. Raise it (--max-memory)");
  }
  const int64_t slots = std::min(total, (limits_.max_bytes - resident_bytes_ - dense_bytes) / slot_bytes);
  const int64_t allowed = limits_.max_pinned_bytes == 0 ? slots / 2 : limits_.max_pinned_bytes / slot_bytes;
  most_pinned_ = std::min(slots - largest_layer, allowed);
  if (!limits_.pinned.empty() && most_pinned_ < 1) {
    throw std::runtime_error(allowed < 1
                                 ? "pinnedExperts.maxBytes is " + std::to_string(limits_.max_pinned_bytes) +
                                       ", less than the " + std::to_string(slot_bytes) +
                                       " bytes of an expert on the GPU. Raise it"
                                 : "maxMemory leaves room for " + std::to_string(slots) +
                                       " experts, of which " + std::to_string(largest_layer) +
                                       " must be free for the experts of a layer; none of pinnedExperts can "
                                       "stay. Raise maxMemory");
  }
  memory_.push_back(device_->Allocate(static_cast<size_t>(slots * slot_bytes), "the experts of the model"));
  resident_bytes_ += slots * slot_bytes;
  auto pool =
      std::make_unique<ExpertPool>(*device_, *store_, dtype_, memory_.back(), slots, slot_bytes, total);
  const std::scoped_lock lock(device_->run_mutex(), mutex_);  // runs of layers that fitted look at it
  pool_ = std::move(pool);
}

// Of what is to stay, that which lies in these layers. The caller holds the device's run_mutex.
void CudaStore::Pin(const std::vector<ExpertLayer*>& layers) {
  for (const auto& [gate, index] : limits_.pinned) {
    if (pool_->counts().pinned == most_pinned_) return;
    const StoredTensor& tensor = store_->Get(gate);
    for (ExpertLayer* layer : layers) {
      if (layer->Has(tensor, index)) pool_->Pin(*layer, index);
    }
  }
}

void CudaStore::Allocate(const std::vector<DeviceTensor*>& tensors, int64_t bytes) {
  if (tensors.empty()) return;
  if (limits_.max_bytes > 0 && resident_bytes_ + bytes > limits_.max_bytes) {
    throw std::runtime_error("maxMemory allows " + Gigabytes(limits_.max_bytes) +
                             " of weights on the GPU, but " + Gigabytes(resident_bytes_ + bytes) + " (" +
                             std::to_string(resident_bytes_ + bytes) +
                             " bytes) are needed by now. Raise it (--max-memory)");
  }
  device_->FreeUnused();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    CheckCuda(cudaMemGetInfo(&free, &total), "asking for the GPU's memory");
    int64_t end = 0;
    const DeviceTensor* first = tensors.back();
    for (const DeviceTensor* tensor : tensors) {
      end += tensor->contents.bytes;
      if (end <= static_cast<int64_t>(free)) continue;
      first = tensor;
      break;
    }
    throw std::runtime_error("the weights do not fit on the GPU: tensor '" + first->source->name + "' (" +
                             Gigabytes(first->contents.bytes) + ") is the first without room; all need " +
                             Gigabytes(bytes) + ", " + Gigabytes(static_cast<int64_t>(free)) + " of " +
                             Gigabytes(static_cast<int64_t>(total)) +
                             " are free. Set maxMemory (--max-memory) to keep only the experts in use there");
  }
  CheckCuda(status, "allocating memory for the weights");
  memory_.push_back(memory);
  resident_bytes_ += bytes;
  auto* at = static_cast<std::byte*>(memory);
  for (DeviceTensor* tensor : tensors) {
    tensor->data = at;
    at += tensor->contents.bytes;
  }
}

void CudaStore::Place(ExpertLayer& layer) {
  void* table = device_->Allocate(layer.table_bytes(), "the addresses of experts");
  memory_.push_back(table);
  if (pool_ != nullptr) pool_->Place(layer);
  for (int64_t expert = 0; pool_ == nullptr && expert < layer.count(); expert++) layer.PointToTensors(expert);
  std::lock_guard<std::mutex> lock(mutex_);
  layer.PutTableAt(table);
  layer.SendPointers(*device_);
}

}  // namespace switchyard::ops
