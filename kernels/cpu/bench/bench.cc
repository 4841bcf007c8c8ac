// Speed of the experts kernels on two real shapes, for every backend and instruction set. Not part of the
// build:
//   g++ -std=c++20 -O2 -pthread kernels/cpu/bench/bench.cc kernels/cpu/{,arch/,quantized/}*.cc
//       kernels/platform/posix/{pages,processors}.cc -o bench
//   ./bench [--isa NAME] [--precision 0|1|2|3] [--dtype bf16|fp16|fp32|int8|int4|gptq|fp8] [--transposed]
//           [--threads N] [--seconds S] [--tokens N,N,...] [--shape 0|1]
// A precision of 2 or 3 allows activations to be rounded to int8. int8 has a scale a row, int4 one for each
// 32 columns, gptq one for each 128, fp8 one for each block of 128 x 128. Prints, per case, the median time,
// GB/s of weights touched once per active expert, and GFLOP/s.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../../common/float_types.h"
#include "../../common/quantized.h"
#include "../arch/isa.h"
#include "../kernels.h"
#include "../machine.h"
#include "../workspace.h"
#include "spin_pool.h"

namespace switchyard::cpu {
namespace {

using Clock = std::chrono::steady_clock;

struct Shape {
  const char* name;
  int64_t experts, hidden, intermediate;
  int top_k;
};
constexpr Shape kShapes[] = {{"60 experts 2048x1408 top 4", 60, 2048, 1408, 4},
                             {"128 experts 2048x768 top 8", 128, 2048, 768, 8}};

struct Options {
  const char* isa = nullptr;
  int precision = 1;
  DType dtype = DType::kBFloat16;
  std::string storage = "bf16";
  bool transposed = false;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  double seconds = 0.3;
  std::vector<int64_t> tokens = {1, 2, 4, 8, 16, 32, 64, 128, 512};
  int shape = -1;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--transposed") {
      options.transposed = true;
      continue;
    }
    if (i + 1 == argc) {
      std::fprintf(stderr, "%s needs a value\n", name.c_str());
      std::exit(2);
    }
    const char* value = argv[++i];
    if (name == "--isa") options.isa = value;
    if (name == "--precision") options.precision = std::atoi(value);
    if (name == "--threads") options.threads = std::atoi(value);
    if (name == "--seconds") options.seconds = std::atof(value);
    if (name == "--shape") options.shape = std::atoi(value);
    if (name == "--dtype") {
      options.storage = value;
      options.dtype = !std::strcmp(value, "fp32")   ? DType::kFloat32
                      : !std::strcmp(value, "fp16") ? DType::kFloat16
                                                    : DType::kBFloat16;
    }
    if (name == "--tokens") {
      options.tokens.clear();
      for (const char* p = value; *p != '\0';) {
        char* end;
        options.tokens.push_back(std::strtoll(p, &end, 10));
        p = *end == ',' ? end + 1 : end;
      }
    }
  }
  return options;
}

// Bytes of the codes of a matrix, and after them of its scales.
struct QuantizedSize {
  int64_t codes, scales;
};

QuantizedSize SizeOf(const std::string& storage, int64_t rows, int64_t cols) {
  if (storage == "int8") return {rows * cols, rows * 2};
  if (storage == "int4") return {rows * cols / 2, rows * cols / 32 * 2};
  if (storage == "gptq") return {rows * cols / 2, rows * cols / 128 * 2};
  if (storage == "fp8") return {rows * cols, (rows + 127) / 128 * ((cols + 127) / 128) * 2};
  return {0, 0};
}

QuantizedTensor Describe(const std::string& storage, const char* data, int64_t rows, int64_t cols) {
  QuantizedTensor q;
  q.rows = rows;
  q.cols = cols;
  q.bits = storage == "int8" || storage == "fp8" ? 8 : 4;
  q.type = storage == "int8" ? CodeType::kInt : storage == "fp8" ? CodeType::kE4m3 : CodeType::kUint;
  q.order = storage == "gptq" ? CodeOrder::kColumns : CodeOrder::kRows;
  q.row_bytes = cols * q.bits / 8;
  q.zero = q.type == CodeType::kUint ? 8 : 0;
  q.group_rows = storage == "fp8" ? 128 : 1;
  q.group_cols = storage == "int8" ? cols : storage == "int4" ? 32 : 128;
  q.scale_type = ScaleType::kBFloat16;
  q.row_step = storage == "gptq" ? 1 : q.col_groups();
  q.col_step = storage == "gptq" ? rows : 1;
  q.codes = reinterpret_cast<const std::byte*>(data);
  q.scales = q.codes + SizeOf(storage, rows, cols).codes;
  return q;
}

// Mapped like a checkpoint, in ordinary pages.
class Weights {
 public:
  Weights(const Shape& shape, const Options& options) {
    const int64_t rows = shape.intermediate;
    const int64_t cols = shape.hidden;
    const QuantizedSize up = SizeOf(options.storage, rows, cols);
    const QuantizedSize down = SizeOf(options.storage, cols, rows);
    if (up.codes == 0) {
      FillPlain(shape, options);
      return;
    }
    const int64_t up_bytes = up.codes + up.scales;
    const int64_t expert_bytes = 2 * up_bytes + down.codes + down.scales;
    Map(static_cast<size_t>(expert_bytes * shape.experts));
    Fill(DType::kBFloat16);
    tensors_.reserve(static_cast<size_t>(3 * shape.experts));
    const auto add = [&](const char* at, int64_t n, int64_t k) {
      tensors_.push_back(Describe(options.storage, at, n, k));
      WeightMatrix matrix = {.rows = n, .cols = k};
      matrix.quantized = &tensors_.back();
      return matrix;
    };
    for (int64_t e = 0; e < shape.experts; ++e) {
      const char* gate = data_ + e * expert_bytes;
      experts_.push_back(
          {add(gate, rows, cols), add(gate + up_bytes, rows, cols), add(gate + 2 * up_bytes, cols, rows)});
    }
  }
  ~Weights() { munmap(data_, bytes_); }
  const std::vector<ExpertWeights>& experts() const { return experts_; }
  const char* data() const { return data_; }
  int64_t bytes() const { return static_cast<int64_t>(bytes_); }

 private:
  void Map(size_t bytes) {
    bytes_ = bytes;
    data_ =
        static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (data_ != MAP_FAILED) return;
    std::perror("mmap");
    std::exit(1);
  }

  void FillPlain(const Shape& shape, const Options& options) {
    const int64_t size = DTypeSize(options.dtype);
    const int64_t matrix = shape.hidden * shape.intermediate * size;
    Map(static_cast<size_t>(3 * matrix * shape.experts));
    Fill(options.dtype);
    for (int64_t e = 0; e < shape.experts; ++e) {
      const char* gate = data_ + 3 * matrix * e;
      const int64_t i = shape.intermediate;
      const int64_t h = shape.hidden;
      const bool t = options.transposed;
      const int64_t up = t ? i * size : matrix;  // transposed weights lie fused, [hidden, 2 * intermediate]
      experts_.push_back({{gate, options.dtype, i, h, t ? 2 * i : h, t},
                          {gate + up, options.dtype, i, h, t ? 2 * i : h, t},
                          {gate + 2 * matrix, options.dtype, h, i, t ? h : i, t}});
    }
  }
  void Fill(DType dtype) {
    std::vector<char> pattern(1 << 20);
    std::minstd_rand random(1);
    const int64_t size = DTypeSize(dtype);
    for (size_t i = 0; i < pattern.size(); i += static_cast<size_t>(size)) {
      const float value = static_cast<float>(random() % 1000) * 1e-4f - 0.05f;
      const uint16_t bits = dtype == DType::kFloat16 ? FloatToFp16(value) : FloatToBf16(value);
      std::memcpy(&pattern[i], dtype == DType::kFloat32 ? static_cast<const void*>(&value) : &bits,
                  static_cast<size_t>(size));
    }
    for (size_t at = 0; at < bytes_; at += pattern.size()) {
      std::memcpy(data_ + at, pattern.data(), std::min(pattern.size(), bytes_ - at));
    }
  }

  char* data_;
  size_t bytes_;
  std::vector<QuantizedTensor> tensors_;
  std::vector<ExpertWeights> experts_;
};

// Median seconds of one call; every call routes differently, so that few tokens find cold weights.
double MedianTime(const Shape& shape, const Options& options, const Weights& weights, int64_t tokens,
                  ExpertsImplementation implementation, ThreadPool& pool, double* active_experts) {
  std::mt19937 random(7);
  Workspace workspace;
  std::vector<float> x(static_cast<size_t>(tokens * shape.hidden)), y(x.size());
  for (float& value : x) value = static_cast<float>(random() % 1000) * 1e-3f - 0.5f;
  std::vector<float> mix(static_cast<size_t>(tokens * shape.top_k), 0.25f);
  std::vector<double> times;
  double active = 0.0;
  const Clock::time_point start = Clock::now();
  do {
    std::vector<int32_t> indices;
    for (int64_t t = 0; t < tokens; ++t) {
      std::set<int32_t> chosen;
      while (static_cast<int>(chosen.size()) < shape.top_k) {
        chosen.insert(static_cast<int32_t>(random() % static_cast<uint32_t>(shape.experts)));
      }
      indices.insert(indices.end(), chosen.begin(), chosen.end());
    }
    active += static_cast<double>(std::set<int32_t>(indices.begin(), indices.end()).size());
    const Clock::time_point begin = Clock::now();
    MoeExperts({x.data(), tokens, weights.experts().data(), shape.experts, shape.hidden, shape.intermediate,
                indices.data(), mix.data(), shape.top_k, implementation, y.data(),
                static_cast<Precision>(options.precision)},
               workspace, pool);
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  } while (std::chrono::duration<double>(Clock::now() - start).count() < options.seconds || times.size() < 3);
  *active_experts = active / static_cast<double>(times.size());
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

void BenchShape(const Shape& shape, const Options& options, const std::vector<const char*>& isas,
                ThreadPool& pool) {
  const Weights weights(shape, options);
  const ReadBandwidth read = MeasureReadBandwidth(weights.data(), weights.bytes(), options.seconds * 3, pool);
  std::printf("%s, %s%s weights, precision %d, %d threads; read %.1f GB/s (%s)\n", shape.name,
              options.storage.c_str(), options.transposed ? " transposed" : "", options.precision,
              pool.NumThreads(), read.gigabytes_per_second, read.pattern);
  for (const char* isa : isas) {
    SelectIsa(isa);
    std::printf("%s, at most %.0f GFLOP/s\n%8s", isa,
                MeasureFlops(FloatPart(static_cast<Precision>(options.precision)), options.seconds, pool),
                "tokens");
    for (const char* name : {"eager", "batched_mm", "grouped_mm"}) {
      std::printf(" | %10s ms   GB/s GFLOP/s", name);
    }
    std::printf("\n");
    for (const int64_t tokens : options.tokens) {
      std::printf("%8lld", static_cast<long long>(tokens));
      for (int i = 0; i < 3; ++i) {
        double active = 0.0;
        const double time =
            MedianTime(shape, options, weights, tokens, static_cast<ExpertsImplementation>(i), pool, &active);
        const double bytes = active * static_cast<double>(weights.bytes() / shape.experts);
        const double flops =
            6.0 * static_cast<double>(shape.hidden * shape.intermediate * tokens * shape.top_k);
        std::printf(" | %13.3f %6.1f %8.1f", time * 1e3, bytes / time * 1e-9, flops / time * 1e-9);
        std::fflush(stdout);
      }
      std::printf("\n");
    }
  }
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  std::vector<const char*> isas(8);
  isas.resize(static_cast<size_t>(AvailableIsas(isas.data(), 8)));
  if (options.isa != nullptr) {
    if (!SelectIsa(options.isa)) {
      std::fprintf(stderr, "this processor cannot run %s\n", options.isa);
      return 2;
    }
    isas = {options.isa};
  }
  SpinPool pool(options.threads);
  for (int s = 0; s < 2; ++s) {
    if (options.shape < 0 || options.shape == s) BenchShape(kShapes[s], options, isas, pool);
  }
  return 0;
}

}  // namespace
}  // namespace switchyard::cpu

int main(int argc, char** argv) { return switchyard::cpu::Main(argc, argv); }
