#include "upload.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "../../common/start_threads.h"

namespace switchyard::ops {
namespace {

// What one thread takes at a time. Little enough that all threads end at about the same time.
constexpr int64_t kPieceBytes = 8 << 20;
// How often progress is told of, at most: whoever hears of it has other things to do meanwhile.
constexpr int64_t kMostReports = 256;
// Copying out of a file's pages takes several threads to keep up with the bus; each has page-locked buffers
// of its own.
constexpr size_t kMostUploadThreads = 16;

std::vector<Transfer> Pieces(const std::vector<Transfer>& transfers, DType dtype) {
  std::vector<Transfer> pieces;
  for (const Transfer& whole : transfers) {
    const Source& source = *whole.source;
    const int64_t most = std::max<int64_t>(kPieceBytes / source.item_bytes(), 1);
    for (int64_t done = 0; done < whole.count; done += most) {
      pieces.push_back({.source = &source,
                        .first = whole.first + done,
                        .count = std::min(most, whole.count - done),
                        .to = whole.to + done * source.DeviceBytes(dtype)});
    }
  }
  return pieces;
}

int64_t BytesOf(const Transfer& transfer) { return transfer.count * transfer.source->item_bytes(); }

}  // namespace

void Upload(CudaDevice& device, DType dtype, const std::vector<Transfer>& transfers,
            const std::function<bool(int64_t, int64_t)>& progress) {
  const std::vector<Transfer> pieces = Pieces(transfers, dtype);
  int64_t total = 0;
  for (const Transfer& piece : pieces) total += BytesOf(piece);
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  int64_t done = 0, told = 0;
  std::exception_ptr failure;
  auto work = [&] {
    try {
      Stager stager(device, dtype, Stager::Stream::kOwn);
      for (size_t i = next++; i < pieces.size() && !stop; i = next++) {
        stager.Bring(pieces[i]);
        std::lock_guard<std::mutex> lock(mutex);
        done += BytesOf(pieces[i]);
        if (done < total && done - told < total / kMostReports) continue;
        told = done;
        if (!progress(done, total)) stop = true;
      }
      stager.Wait();
    } catch (...) {
      stop = true;
      std::lock_guard<std::mutex> lock(mutex);
      failure = std::current_exception();
    }
  };
  const size_t processors = std::max(1u, std::thread::hardware_concurrency());
  const auto count = static_cast<int>(std::min({kMostUploadThreads, processors, pieces.size()}));
  std::vector<std::thread> threads = StartThreads(count - 1, work);
  if (count > 0) work();
  for (std::thread& thread : threads) thread.join();
  if (failure != nullptr) std::rethrow_exception(failure);
  if (stop && done < total) throw std::runtime_error("the upload of the weights was ended");
}

}  // namespace switchyard::ops
