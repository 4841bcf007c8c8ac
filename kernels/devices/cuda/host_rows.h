// Tables that stay in their files, of which a GPU is sent the rows that it reads.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "../../weights/weight_ref.h"
#include "device.h"

namespace switchyard::ops {

// Rows of several tables, one table after the other, all but the last of as many rows. What is enqueued may
// be captured: ids go to the host, which reads the rows in the turn of the stream, and the rows come back.
// For one thread at a time.
class HostRows {
 public:
  HostRows(CudaDevice& device, std::vector<WeightRef> parts);
  ~HostRows();
  HostRows(const HostRows&) = delete;
  HostRows& operator=(const HostRows&) = delete;

  // Enqueues out[i] = row ids[i], as fp32; zeros where there is no such row. Both lie on the device.
  void Read(const int64_t* ids, int64_t count, float* out);

 private:
  // Page-locked memory for some rows. All reads use it in turn, as the stream does one after the other.
  struct Buffer {
    int64_t rows = 0;
    int64_t* ids = nullptr;
    float* values = nullptr;
  };
  // What the host is told of a read; captured runs name it too.
  struct Call {
    const HostRows* table;
    const Buffer* buffer;
    int64_t count;
  };
  static void CUDART_CB ReadOnHost(void* call);
  Call& CallOf(int64_t count);
  const Buffer& BufferFor(int64_t rows);

  CudaDevice& device_;
  std::vector<WeightRef> parts_;
  std::map<int64_t, Call> calls_;  // by count
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace switchyard::ops
