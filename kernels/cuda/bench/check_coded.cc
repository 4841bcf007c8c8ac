// Checks of the kernels that read quantized weights, against the values that the host's specification gives
// the codes; and times of the experts beside those of bfloat16.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "../../common/quantized_elements.h"
#include "../coded_matrix.h"
#include "../common/launch.h"
#include "device.h"

namespace switchyard::cuda::bench {
namespace {

struct Model {
  int experts, top_k, hidden, intermediate;
};
constexpr Model kSmall = {4, 2, 128, 256};
constexpr Model kLarge = {128, 8, 2048, 768};  // Qwen3-30B-A3B
constexpr int64_t kCheckedTokens[] = {1, 5, 70};
constexpr int64_t kTimedTokens[] = {1, 4, 16, 64, 512};
constexpr int64_t kMostEagerTokens = 16;  // whose time more tokens only multiply

// What is published most.
struct Format {
  const char* name;
  CodeKind kind;
  ScaleType scale_type;
  int row_shift, col_shift;
  float zero;
};
constexpr int kOneGroup = 31;
constexpr Format kFormats[] = {{"int4 in groups of 128", CodeKind::kUint4, ScaleType::kFloat16, 0, 7, 8.0f},
                               {"int8 by row", CodeKind::kUint8, ScaleType::kBFloat16, 0, kOneGroup, 128.0f},
                               {"fp8 in blocks of 128", CodeKind::kE4m3, ScaleType::kBFloat16, 7, 7, 0.0f},
                               {"nvfp4", CodeKind::kE2m1, ScaleType::kE4m3, 0, 4, 0.0f}};

int64_t Rounded(int64_t bytes) { return CeilDiv(bytes, kCodedAlignment) * kCodedAlignment; }

double Tolerance(DType dtype) {
  if (dtype == DType::kFloat32) return 1e-5;
  return dtype == DType::kFloat16 ? 2e-3 : 1e-2;
}

// A matrix of random codes, in host memory, with its elements where they are asked for.
class RandomMatrix {
 public:
  RandomMatrix(const Format& format, int rows, int cols, std::mt19937& random) : rows_(rows), cols_(cols) {
    header_.kind = format.kind;
    header_.scale_type = format.scale_type;
    header_.row_shift = format.row_shift;
    header_.col_shift = format.col_shift;
    header_.groups = ((cols - 1) >> format.col_shift) + 1;
    header_.zero = format.zero;
    header_.factor = format.kind == CodeKind::kE4m3 ? 3e-2f : format.kind == CodeKind::kUint8 ? 4e-4f : 5e-3f;
    header_.row_bytes = int64_t{1} * cols * CodeBits(format.kind) / 8;
    header_.codes = kCodedAlignment;
    header_.scales = header_.codes + Rounded(rows * header_.row_bytes);
    const int64_t grid = (((rows - 1) >> format.row_shift) + 1) * int64_t{header_.groups};
    bytes_.resize(header_.scales + Rounded(grid * ScaleBytes()));
    std::memcpy(bytes_.data(), &header_, sizeof(header_));
    for (int64_t i = header_.codes; i < header_.scales; i += 4) {
      uint32_t word = random();
      // No NaN among float8: below 2.
      if (format.kind == CodeKind::kE4m3) word &= 0xbfbfbfbfu;
      std::memcpy(bytes_.data() + i, &word, sizeof(word));
    }
    for (int64_t i = 0; i < grid; ++i) {
      const float scale = 0.5f + static_cast<float>(random() % 64) / 64.0f;
      const uint16_t half =
          format.scale_type == ScaleType::kFloat16 ? FloatToFp16(scale) : FloatToBf16(scale);
      const auto byte = static_cast<uint8_t>(0x30 + random() % 16);
      std::memcpy(bytes_.data() + header_.scales + i * ScaleBytes(),
                  ScaleBytes() == 1 ? static_cast<const void*>(&byte) : &half,
                  static_cast<size_t>(ScaleBytes()));
    }
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::vector<float> Elements() const {
    std::vector<float> elements;
    elements.reserve(int64_t{1} * rows_ * cols_);
    for (int64_t n = 0; n < rows_; ++n) {
      for (int64_t k = 0; k < cols_; ++k) elements.push_back(Element(n, k));
    }
    return elements;
  }

 private:
  int64_t ScaleBytes() const { return header_.scale_type == ScaleType::kE4m3 ? 1 : 2; }
  float Element(int64_t n, int64_t k) const {
    const int bits = CodeBits(header_.kind);
    const uint32_t code = CodeInStream(bytes_.data() + header_.codes + n * header_.row_bytes, k * bits, bits);
    const int64_t group = (n >> header_.row_shift) * header_.groups + (k >> header_.col_shift);
    const std::byte* scales = bytes_.data() + header_.scales;
    const float scale =
        header_.scale_type == ScaleType::kE4m3      ? E4m3ToFloat(static_cast<uint8_t>(scales[group]))
        : header_.scale_type == ScaleType::kFloat16 ? Fp16ToFloat(LoadAt<uint16_t>(scales, group))
                                                    : Bf16ToFloat(LoadAt<uint16_t>(scales, group));
    float value = static_cast<float>(code) - header_.zero;
    if (header_.kind == CodeKind::kE4m3) value = E4m3ToFloat(static_cast<uint8_t>(code));
    if (header_.kind == CodeKind::kE2m1) value = kE2m1[code];
    return value * scale * header_.factor;
  }

  int rows_, cols_;
  CodedMatrix header_ = {};
  std::vector<std::byte> bytes_;
};

// A layer of them, and the same as plain fp32 where that is asked for.
struct Experts {
  Experts(const Format& format, const Model& model, bool with_elements) : coded(3 * model.experts) {
    std::mt19937 random(42);
    std::vector<std::byte> codes;
    std::vector<float> elements;
    std::vector<int64_t> code_offsets, element_offsets;
    for (int e = 0; e < model.experts; ++e) {
      for (int part = 0; part < 3; ++part) {
        const bool down = part == 2;
        const RandomMatrix matrix(format, down ? model.hidden : model.intermediate,
                                  down ? model.intermediate : model.hidden, random);
        code_offsets.push_back(static_cast<int64_t>(codes.size()));
        element_offsets.push_back(static_cast<int64_t>(elements.size()));
        codes.insert(codes.end(), matrix.bytes().begin(), matrix.bytes().end());
        if (!with_elements) continue;
        const std::vector<float> more = matrix.Elements();
        elements.insert(elements.end(), more.begin(), more.end());
      }
    }
    code_memory = Upload(codes);
    element_memory = Upload(elements);
    table = Table(model, code_memory.As<std::byte>(), code_offsets, coded, &coded_pointers);
    table.coded = true;
    plain.resize(3 * model.experts);
    for (int64_t& offset : element_offsets) offset *= sizeof(float);
    reference = Table(model, element_memory.As<std::byte>(), element_offsets, plain, &plain_pointers);
    reference.dtype = DType::kFloat32;
  }

  static ExpertTable Table(const Model& model, const std::byte* memory, const std::vector<int64_t>& offsets,
                           std::vector<const void*>& host, DeviceBuffer* device) {
    std::vector<const void*> parts[3];
    for (size_t i = 0; i < offsets.size(); ++i) parts[i % 3].push_back(memory + offsets[i]);
    ExpertTable table;
    table.num_experts = model.experts;
    table.hidden = model.hidden;
    table.intermediate = model.intermediate;
    *device = DeviceBuffer(host.size() * sizeof(void*));
    FillSeparateExperts(parts[0].data(), parts[1].data(), parts[2].data(), host.data(),
                        device->As<const void*>(), &table);
    CHECK_CUDA(cudaMemcpy(device->data(), host.data(), device->bytes(), cudaMemcpyHostToDevice));
    return table;
  }

  DeviceBuffer code_memory, element_memory, coded_pointers, plain_pointers;
  std::vector<const void*> coded, plain;
  ExpertTable table, reference;
};

// Timed calls take turns with so many choices of experts, that few of them do not stay in a cache.
constexpr int kRoutings = 16;

// Different experts for every token, spread evenly.
std::vector<int32_t> Route(const Model& model, int64_t tokens, int routing = 0) {
  std::vector<int32_t> indices;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int j = 0; j < model.top_k; ++j)
      indices.push_back(static_cast<int32_t>(((t * 5 + routing) * model.top_k + j) % model.experts));
  }
  return indices;
}
std::vector<int32_t> Routings(const Model& model, int64_t tokens) {
  std::vector<int32_t> indices;
  for (int routing = 0; routing < kRoutings; ++routing) {
    const std::vector<int32_t> more = Route(model, tokens, routing);
    indices.insert(indices.end(), more.begin(), more.end());
  }
  return indices;
}

struct Backend {
  const char* name;
  ExpertsImplementation implementation;
};
constexpr Backend kBackends[] = {{"eager", ExpertsImplementation::kEager},
                                 {"batched_mm", ExpertsImplementation::kBatchedMm},
                                 {"grouped_mm", ExpertsImplementation::kGroupedMm}};

cudaError_t Launch(GemmContext& gemm, const Backend& backend, const MoeExpertsArgs& args,
                   cudaStream_t stream) {
  switch (backend.implementation) {
    case ExpertsImplementation::kEager:
      return LaunchMoeEager(gemm, args, stream);
    case ExpertsImplementation::kBatchedMm:
      return LaunchMoeBatchedMm(args, stream);
    case ExpertsImplementation::kGroupedMm:
      return LaunchMoeGroupedMm(args, stream);
  }
  return cudaErrorInvalidValue;
}

// Inputs and outputs of a call.
struct Call {
  Call(const Model& model, DType dtype, int64_t tokens)
      : x(RandomBuffer(dtype, tokens * model.hidden, 1.0f, 3)),
        indices(Upload(Routings(model, tokens))),
        weights(Upload(std::vector<float>(tokens * model.top_k, 0.2f))),
        y(tokens * model.hidden * sizeof(float)) {
    args.x = x.data();
    args.tokens = tokens;
    args.indices = indices.As<int32_t>();
    args.weights = weights.As<float>();
    args.top_k = model.top_k;
    args.y = y.data();
    args.y_dtype = DType::kFloat32;
  }
  void Use(ExpertTable table, DType dtype, ExpertsImplementation implementation) {
    table.dtype = dtype;
    args.experts = table;
    workspace = DeviceBuffer(MoeWorkspaceBytes(implementation, table, args.tokens, args.top_k));
    args.workspace = workspace.data();
    args.workspace_bytes = workspace.bytes();
  }
  MoeExpertsArgs Routed(int routing) const {
    MoeExpertsArgs routed = args;
    routed.indices += routing % kRoutings * args.tokens * args.top_k;
    return routed;
  }
  DeviceBuffer x, indices, weights, y, workspace;
  MoeExpertsArgs args;
};

LinearArgs Linear(DType dtype, int64_t m, int64_t n, int64_t k, const DeviceBuffer& x,
                  const DeviceBuffer& codes, const DeviceBuffer& out) {
  LinearArgs args;
  args.dtype = dtype;
  args.m = m;
  args.n = args.out_stride = n;
  args.k = args.a_stride = k;
  args.a = x.data();
  args.w = codes.data();
  args.coded = true;
  args.out = out.data();
  args.out_dtype = DType::kFloat32;
  return args;
}

int Report(const std::string& what, double error, double tolerance) {
  const bool passed = error <= tolerance;
  std::printf("%-60s error %.1e %s\n", what.c_str(), error, passed ? "ok" : "WRONG");
  return passed ? 0 : 1;
}

int CheckExperts(GemmContext& gemm, cudaStream_t stream, const Format& format, DType dtype) {
  const Experts experts(format, kSmall, true);
  int failures = 0;
  for (const int64_t tokens : kCheckedTokens) {
    Call call(kSmall, dtype, tokens);
    // The reference reads activations as floats of its weights' type.
    const DeviceBuffer wide = Upload(DownloadFloats(call.x, dtype));
    MoeExpertsArgs reference = call.args;
    reference.x = wide.data();
    reference.experts = experts.reference;
    std::vector<int64_t> all(tokens);
    for (int64_t t = 0; t < tokens; ++t) all[t] = t;
    const std::vector<float> expected = ReferenceMoe(reference, all);
    for (const Backend& backend : kBackends) {
      call.Use(experts.table, dtype, backend.implementation);
      call.y.Poison();
      CHECK_CUDA(cudaDeviceSynchronize());
      CHECK_CUDA(Launch(gemm, backend, call.args, stream));
      CHECK_CUDA(cudaStreamSynchronize(stream));
      failures +=
          Report(std::string(format.name) + ", " + backend.name + ", " + std::to_string(tokens) + " tokens",
                 RelativeError(Download<float>(call.y), expected), Tolerance(dtype));
    }
  }
  return failures;
}

// Few rows and more times a matrix whose sizes fill no tile.
int CheckLinear(GemmContext& gemm, cudaStream_t stream, const Format& format, DType dtype) {
  constexpr int kN = 200, kK = 416;
  std::mt19937 random(7);
  const RandomMatrix matrix(format, kN, kK, random);
  const DeviceBuffer codes = Upload(matrix.bytes());
  const std::vector<float> elements = matrix.Elements();
  int failures = 0;
  for (const int64_t rows : {1, 6, 16, 40}) {
    const DeviceBuffer x = RandomBuffer(dtype, rows * kK, 1.0f, 5);
    const std::vector<float> inputs = DownloadFloats(x, dtype);
    std::vector<float> expected;
    for (int64_t m = 0; m < rows; ++m) {
      for (int n = 0; n < kN; ++n) {
        double sum = 0.0;
        for (int k = 0; k < kK; ++k) sum += double{inputs[m * kK + k]} * elements[n * kK + k];
        expected.push_back(static_cast<float>(sum));
      }
    }
    const DeviceBuffer out(expected.size() * sizeof(float));
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(LaunchLinear(gemm, Linear(dtype, rows, kN, kK, x, codes, out), stream));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    failures += Report(std::string(format.name) + ", linear, " + std::to_string(rows) + " rows",
                       RelativeError(Download<float>(out), expected), Tolerance(dtype));
  }
  return failures;
}

int64_t ActiveExperts(const Model& model, int64_t tokens) {
  std::vector<int32_t> indices = Route(model, tokens);
  std::sort(indices.begin(), indices.end());
  return std::unique(indices.begin(), indices.end()) - indices.begin();
}

// A product wide enough for no cache to hold its weights.
void TimeLinear(GemmContext& gemm, cudaStream_t stream, double copy_rate) {
  constexpr int kN = 151936, kK = 2048;
  std::printf("\nquantized [%d, %d] times rows of bfloat16\n\n", kN, kK);
  std::printf("| weights | rows | µs | GB/s (of copy) |\n| --- | ---: | ---: | ---: |\n");
  for (const Format& format : {kFormats[0], kFormats[2]}) {
    std::mt19937 random(7);
    const DeviceBuffer codes = Upload(RandomMatrix(format, kN, kK, random).bytes());
    for (const int64_t rows : {1, 4, 16}) {
      const DeviceBuffer x = RandomBuffer(DType::kBFloat16, rows * kK, 1.0f, 5),
                         out(rows * kN * sizeof(float));
      const LinearArgs args = Linear(DType::kBFloat16, rows, kN, kK, x, codes, out);
      const double time =
          MedianMicroseconds(stream, [&](int) { CHECK_CUDA(LaunchLinear(gemm, args, stream)); });
      const double rate = static_cast<double>(codes.bytes()) / time * 1e-3;
      std::printf("| %s | %lld | %.1f | %.0f (%.0f%%) |\n", format.name, static_cast<long long>(rows), time,
                  rate, 100.0 * rate / copy_rate);
    }
  }
}

}  // namespace

int CheckCodedKernels(GemmContext& gemm, cudaStream_t stream) {
  int failures = 0;
  for (const Format& format : kFormats) {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32})
      failures += CheckExperts(gemm, stream, format, dtype) + CheckLinear(gemm, stream, format, dtype);
  }
  return failures;
}

void TimeCodedKernels(GemmContext& gemm, cudaStream_t stream, double copy_rate) {
  std::printf("\nquantized experts of Qwen3-30B-A3B's shapes, activations bfloat16\n\n");
  std::printf("| weights | tokens | backend | µs | in a graph | GB/s (of copy) |\n");
  std::printf("| --- | ---: | --- | ---: | ---: | ---: |\n");
  for (const Format& format : kFormats) {
    const Experts experts(format, kLarge, false);
    const double expert_bytes = static_cast<double>(experts.code_memory.bytes()) / kLarge.experts;
    for (const int64_t tokens : kTimedTokens) {
      Call call(kLarge, DType::kBFloat16, tokens);
      for (const Backend& backend : kBackends) {
        const bool eager = backend.implementation == ExpertsImplementation::kEager;
        if (eager && tokens > kMostEagerTokens) continue;
        call.Use(experts.table, DType::kBFloat16, backend.implementation);
        const auto launch = [&](int i) { CHECK_CUDA(Launch(gemm, backend, call.Routed(i), stream)); };
        const double time = MedianMicroseconds(stream, launch);
        const double graph = eager ? time : MedianGraphMicroseconds(stream, kRoutings, launch);
        const double rate = static_cast<double>(ActiveExperts(kLarge, tokens)) * expert_bytes / graph * 1e-3;
        std::printf("| %s | %lld | %s | %.1f | %.1f | %.0f (%.0f%%) |\n", format.name,
                    static_cast<long long>(tokens), backend.name, time, graph, rate,
                    100.0 * rate / copy_rate);
      }
    }
  }
  TimeLinear(gemm, stream, copy_rate);
}

}  // namespace switchyard::cuda::bench
