#include "upload.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
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

std::vector<Transfer> Pieces(const std::vector<Transfer>& transfers, DType to_type) {
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

void Upload(CudaDevice& device, DType dtype, const std::vector<Transfer>& transfers,
            const std::function<bool(int64_t, int64_t)>& progress) {
  const std::vector<Transfer> pieces = Pieces(transfers, dtype);
  int64_t total = 0;
  for (const Transfer& piece : pieces) total += piece.count * DTypeSize(piece.from_type);
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  int64_t done = 0;
  std::exception_ptr failure;
  auto work = [&] {
    try {
      Stager stager(device, dtype, Stager::Stream::kOwn);
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
  if (stop && done < total) throw std::runtime_error("the upload of the weights was ended");
}

}  // namespace switchyard::ops
