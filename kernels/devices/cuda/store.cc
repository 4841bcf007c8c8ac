#include "store.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <set>
#include <stdexcept>
#include <thread>

#include "../../common/float_types.h"
#include "../../common/start_threads.h"

namespace switchyard::ops {
namespace {

// What one thread brings between two looks at how far the upload is.
constexpr int64_t kPieceElements = 16 << 20;
// More threads do not read a file faster; each has page-locked buffers of its own.
constexpr int kUploadThreads = 4;
constexpr int64_t kAlignment = 256;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

DType TypeOf(const StoredTensor& tensor) { return static_cast<DType>(tensor.type); }

int64_t CountOf(const StoredTensor& tensor) {
  return static_cast<int64_t>(tensor.bytes) / DTypeSize(TypeOf(tensor));
}

std::vector<Transfer> Pieces(std::vector<Transfer> transfers, DType to_type) {
  std::vector<Transfer> pieces;
  for (const Transfer& whole : transfers) {
    for (int64_t first = 0; first < whole.count; first += kPieceElements) {
      pieces.push_back({.from = whole.from + first * DTypeSize(whole.from_type),
                        .from_type = whole.from_type,
                        .count = std::min(kPieceElements, whole.count - first),
                        .to = static_cast<std::byte*>(whole.to) + first * DTypeSize(to_type)});
    }
  }
  return pieces;
}

}  // namespace

const void* DeviceMatrix::Data(DType dtype) const {
  if (tensor == nullptr) return nullptr;
  return static_cast<const std::byte*>(tensor->data) + first * DTypeSize(dtype);
}

CudaStore::CudaStore(std::shared_ptr<CudaDevice> device, std::shared_ptr<const WeightStore> store,
                     DType dtype, int64_t max_bytes)
    : device_(std::move(device)), store_(std::move(store)), dtype_(dtype), max_bytes_(max_bytes) {
  for (int64_t handle = 0; handle < store_->size(); handle++) {
    const StoredTensor& tensor = store_->Get(handle);
    if (!IsWeightType(tensor.type) || tensor.bytes == 0) continue;
    const StoredTensor*& longest = by_address_[tensor.data];
    if (longest == nullptr || CountOf(*longest) < CountOf(tensor)) longest = &tensor;
  }
}

CudaStore::~CudaStore() {
  // Nothing throws from here: the device may be gone already.
  cudaSetDevice(device_->index());
  cudaStreamSynchronize(device_->cuda_stream());
  stager_ = nullptr;
  for (void* memory : memory_) cudaFree(memory);
}

CudaStore::Place CudaStore::Locate(const void* data) const {
  const auto* address = static_cast<const std::byte*>(data);
  auto next = by_address_.upper_bound(address);
  if (next == by_address_.begin()) throw std::logic_error("a weight lies outside of its store");
  const StoredTensor* tensor = std::prev(next)->second;
  return {tensor, (address - tensor->data) / DTypeSize(TypeOf(*tensor))};
}

DeviceMatrix CudaStore::Require(const WeightMatrix& matrix) {
  if (matrix.data == nullptr || matrix.rows * matrix.cols == 0) return {nullptr, 0, matrix};
  const Place place = Locate(matrix.data);
  std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<DeviceTensor>& tensor = tensors_[place.tensor->data];
  if (tensor == nullptr)
    tensor = std::make_unique<DeviceTensor>(DeviceTensor{place.tensor, CountOf(*place.tensor), nullptr});
  return {tensor.get(), place.first, matrix};
}

ExpertLayer& CudaStore::RequireExperts(const MoeExpertsAttributes& attributes) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<const void*> key;
  for (const auto& [gate, up, down] : attributes.experts)
    key.insert(key.end(), {gate.data, up.data, down.data});
  std::unique_ptr<ExpertLayer>& layer = layers_[key];
  if (layer != nullptr) return *layer;
  layer = std::make_unique<ExpertLayer>();
  const WeightMatrix& gate = attributes.experts.front().gate;
  layer->table_ = {.dtype = dtype_,
                   .num_experts = static_cast<int>(attributes.num_experts),
                   .hidden = static_cast<int>(attributes.hidden),
                   .intermediate = static_cast<int>(attributes.intermediate),
                   .transposed = gate.transposed,
                   .gate_stride = gate.stride,
                   .down_stride = attributes.experts.front().down.stride,
                   .gate = {},
                   .up = {},
                   .down = {}};
  for (const auto& [expert_gate, up, down] : attributes.experts) {
    layer->experts_.push_back({{nullptr, 0, expert_gate}, {nullptr, 0, up}, {nullptr, 0, down}, {}, 0, 0, 0});
  }
  layer->first_number_ = num_experts_;
  num_experts_ += attributes.num_experts;
  DescribeSlot(*layer);
  return *layer;
}

// Gate and up of a fused tensor are one block: where it is transposed, their rows alternate.
void CudaStore::DescribeSlot(ExpertLayer& layer) {
  const int64_t size = DTypeSize(dtype_);
  for (ExpertLayer::Expert& expert : layer.experts_) {
    const int64_t matrix = expert.gate.shape.rows * expert.gate.shape.cols;
    const Place gate = Locate(expert.gate.shape.data), up = Locate(expert.up.shape.data),
                down = Locate(expert.down.shape.data);
    int64_t end = 0;
    auto add = [&](const Place& place, int64_t count) {
      const int64_t offset = end;
      expert.blocks.push_back({place.tensor, place.first, count, offset});
      end += Aligned(count * size);
      return offset;
    };
    const bool fused =
        gate.tensor == up.tensor && up.first > gate.first && up.first - gate.first < 2 * matrix;
    expert.gate_offset = add(gate, fused ? 2 * matrix : matrix);
    expert.up_offset = fused ? expert.gate_offset + (up.first - gate.first) * size : add(up, matrix);
    expert.down_offset = add(down, matrix);
    layer.slot_bytes_ = end;
  }
}

int64_t CudaStore::BytesOf(const DeviceTensor& tensor) const {
  return Aligned(tensor.elements * DTypeSize(dtype_));
}

int64_t CudaStore::BytesOf(const std::vector<DeviceTensor*>& tensors) const {
  int64_t bytes = 0;
  for (const DeviceTensor* tensor : tensors) bytes += BytesOf(*tensor);
  return bytes;
}

// Tensors that are yet to come, in the order of the files.
std::vector<DeviceTensor*> CudaStore::Pending() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<DeviceTensor*> tensors;
  for (auto& [address, tensor] : tensors_) {
    if (tensor->data == nullptr) tensors.push_back(tensor.get());
  }
  return tensors;
}

std::vector<ExpertLayer*> CudaStore::Unplaced() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<ExpertLayer*> layers;
  for (auto& [key, layer] : layers_) {
    if (!layer->placed_) layers.push_back(layer.get());
  }
  return layers;
}

void CudaStore::Upload(const std::function<bool(int64_t, int64_t)>& progress) {
  std::lock_guard<std::mutex> upload_lock(upload_mutex_);
  const std::vector<ExpertLayer*> layers = Unplaced();
  const int64_t dense_bytes = BytesOf(Pending());
  int64_t expert_bytes = 0;
  for (const ExpertLayer* layer : layers) expert_bytes += layer->slot_bytes_ * layer->table_.num_experts;
  const bool fits = max_bytes_ == 0 || resident_bytes_ + dense_bytes + expert_bytes <= max_bytes_;
  if (!fits && residency_ == nullptr) MakePool(dense_bytes);
  if (residency_ == nullptr) {
    for (ExpertLayer* layer : layers) {
      for (ExpertLayer::Expert& expert : layer->experts_) {
        for (DeviceMatrix* matrix : {&expert.gate, &expert.up, &expert.down})
          *matrix = Require(matrix->shape);
      }
    }
  }
  const std::vector<DeviceTensor*> tensors = Pending();
  const int64_t bytes = BytesOf(tensors);
  Allocate(tensors, bytes);
  std::vector<Transfer> transfers;
  for (const DeviceTensor* tensor : tensors)
    transfers.push_back({tensor->source->data, TypeOf(*tensor->source), tensor->elements, tensor->data});
  try {
    Transport(transfers, progress);
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
  for (ExpertLayer* layer : layers) PlaceLayer(*layer);
}

void CudaStore::MakePool(int64_t dense_bytes) {
  int64_t largest_layer = 0, total = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    total = num_experts_;
    for (auto& [key, layer] : layers_) {
      slot_bytes_ = std::max(slot_bytes_, layer->slot_bytes_);
      largest_layer = std::max<int64_t>(largest_layer, layer->table_.num_experts);
    }
  }
  const int64_t least = resident_bytes_ + dense_bytes + largest_layer * slot_bytes_;
  if (least > max_bytes_ || total == 0) {
    throw std::runtime_error(
        "maxMemory allows " + Gigabytes(max_bytes_) +
        " of weights on the GPU, but this model needs at least " + Gigabytes(least) + " (" +
        std::to_string(least) + " bytes): " + Gigabytes(resident_bytes_ + dense_bytes) +
        " that always stay, and " + Gigabytes(largest_layer * slot_bytes_) + " for the experts of one layer");
  }
  const int64_t slots = std::min(total, (max_bytes_ - resident_bytes_ - dense_bytes) / slot_bytes_);
  stager_ = std::make_unique<Stager>(*device_, dtype_, Stager::Stream::kDevice);
  slots_ = static_cast<std::byte*>(
      device_->Allocate(static_cast<size_t>(slots * slot_bytes_), "the experts of the model"));
  memory_.push_back(slots_);
  resident_bytes_ += slots * slot_bytes_;
  residency_ = std::make_unique<Residency>(total, slots);
}

void CudaStore::Allocate(const std::vector<DeviceTensor*>& tensors, int64_t bytes) {
  if (tensors.empty()) return;
  if (max_bytes_ > 0 && resident_bytes_ + bytes > max_bytes_) {
    throw std::runtime_error("maxMemory allows " + Gigabytes(max_bytes_) + " of weights on the GPU, but " +
                             Gigabytes(resident_bytes_ + bytes) + " (" +
                             std::to_string(resident_bytes_ + bytes) + " bytes) are needed by now");
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
      end += BytesOf(*tensor);
      if (end <= static_cast<int64_t>(free)) continue;
      first = tensor;
      break;
    }
    throw std::runtime_error("the weights do not fit on the GPU: tensor '" + first->source->name + "' (" +
                             Gigabytes(BytesOf(*first)) + ") is the first without room; all need " +
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
    at += BytesOf(*tensor);
  }
}

// The map's order is that of addresses in mapped files, so threads read along each file together.
void CudaStore::Transport(const std::vector<Transfer>& transfers,
                          const std::function<bool(int64_t, int64_t)>& progress) {
  const std::vector<Transfer> pieces = Pieces(transfers, dtype_);
  int64_t total = 0;
  for (const Transfer& piece : pieces) total += piece.count * DTypeSize(piece.from_type);
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  int64_t done = 0;
  std::exception_ptr failure;
  auto work = [&] {
    try {
      Stager stager(*device_, dtype_, Stager::Stream::kOwn);
      for (size_t i = next++; i < pieces.size() && !stop; i = next++) {
        stager.Bring(pieces[i]);
        std::lock_guard<std::mutex> lock(mutex);
        done += pieces[i].count * DTypeSize(pieces[i].from_type);
        if (!progress(done, total)) stop = true;
      }
      stager.Wait();
    } catch (...) {
      stop = true;
      std::lock_guard<std::mutex> lock(mutex);
      failure = std::current_exception();
    }
  };
  const auto count = static_cast<int>(std::min<size_t>(kUploadThreads, pieces.size()));
  std::vector<std::thread> threads = StartThreads(count - 1, work);
  if (count > 0) work();
  for (std::thread& thread : threads) thread.join();
  if (failure != nullptr) std::rethrow_exception(failure);
  store_->CheckUnchanged();
  if (stop && done < total) throw std::runtime_error("the upload of the weights was ended");
}

void CudaStore::PlaceLayer(ExpertLayer& layer) {
  const auto count = static_cast<size_t>(layer.table_.num_experts);
  layer.pointers_.assign(3 * count, nullptr);
  layer.device_pointers_ =
      device_->Allocate(layer.pointers_.size() * sizeof(void*), "the addresses of experts");
  memory_.push_back(layer.device_pointers_);
  const void* const* host = layer.pointers_.data();
  const auto* device = static_cast<const void* const*>(layer.device_pointers_);
  layer.table_.gate = {device, host};
  layer.table_.up = {device + count, host + count};
  layer.table_.down = {device + 2 * count, host + 2 * count};
  // Where experts come and go, their kernels never look at one that is not there, but its alignment counts.
  for (size_t e = 0; e < count; e++) {
    const ExpertLayer::Expert& expert = layer.experts_[e];
    layer.pointers_[e] = residency_ ? slots_ + expert.gate_offset : expert.gate.Data(dtype_);
    layer.pointers_[count + e] = residency_ ? slots_ + expert.up_offset : expert.up.Data(dtype_);
    layer.pointers_[2 * count + e] = residency_ ? slots_ + expert.down_offset : expert.down.Data(dtype_);
  }
  SendPointers(layer);
  std::lock_guard<std::mutex> lock(mutex_);
  layer.placed_ = true;
}

void CudaStore::SendPointers(ExpertLayer& layer) {
  device_->CopyToDevice(layer.device_pointers_, layer.pointers_.data(),
                        layer.pointers_.size() * sizeof(void*));
}

void CudaStore::Fetch(const ExpertLayer& layer, const std::vector<Residency::Fetch>& fetches) {
  for (const auto& [number, slot] : fetches) {
    for (const auto& block : layer.experts_[static_cast<size_t>(number - layer.first_number_)].blocks) {
      const int64_t from_size = DTypeSize(TypeOf(*block.source));
      stager_->Bring({block.source->data + block.first * from_size, TypeOf(*block.source), block.count,
                      slots_ + slot * slot_bytes_ + block.offset});
      fetched_bytes_ += block.count * from_size;
    }
    fetches_++;
  }
  if (!fetches.empty()) store_->CheckUnchanged();
}

void CudaStore::Prepare(ExpertLayer& layer, const int32_t* indices, int64_t count) {
  if (residency_ == nullptr || count == 0) return;
  if (device_->capturing()) throw std::runtime_error("experts are fetched on demand, under maxMemory");
  std::vector<int32_t> chosen(static_cast<size_t>(count));
  device_->CopyToHost(chosen.data(), indices, chosen.size() * sizeof(int32_t));
  const std::set<int32_t> different(chosen.begin(), chosen.end());
  std::vector<int64_t> wanted;
  for (const int32_t e : different) wanted.push_back(layer.first_number_ + e);
  const std::vector<Residency::Fetch> fetches = residency_->Request(wanted);
  try {
    Fetch(layer, fetches);
  } catch (...) {
    // The next run must not take them to be there.
    for (const auto& [number, slot] : fetches) residency_->Forget(number);
    throw;
  }
  hits_ += static_cast<int64_t>(wanted.size() - fetches.size());
  const auto experts = static_cast<size_t>(layer.table_.num_experts);
  for (const int64_t number : wanted) {
    const auto e = static_cast<size_t>(number - layer.first_number_);
    const std::byte* slot = slots_ + residency_->SlotOf(number) * slot_bytes_;
    layer.pointers_[e] = slot + layer.experts_[e].gate_offset;
    layer.pointers_[experts + e] = slot + layer.experts_[e].up_offset;
    layer.pointers_[2 * experts + e] = slot + layer.experts_[e].down_offset;
  }
  SendPointers(layer);
}

}  // namespace switchyard::ops
