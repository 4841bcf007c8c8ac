// Rows times codes on tensor cores, against the elements one by one: headers of every kind, group, scale,
// zero point and bias, whatever the storages of checkpoints have today.
#include <memory>
#include <utility>

#include "../../../kernels/cuda/common/coded_rows.cuh"
#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using testing::ExpectClose;
using testing::Guarded;
using testing::RandomFloat;
using testing::RandomInt;
using testing::Tensor;
using testing::Tolerance;

int64_t Rounded(int64_t bytes) { return (bytes + 15) / 16 * 16; }
double Rounded(DType dtype, double element) {
  const float value = static_cast<float>(element);
  return dtype == DType::kBFloat16 ? ToFloat(FromFloat<__nv_bfloat16>(value))
                                   : ToFloat(FromFloat<__half>(value));
}
bool Chance(int of) { return RandomInt(1, of) == 1; }

// A random matrix [rows, cols] as it lies on a device, in memory of its size.
class RandomCodes {
 public:
  RandomCodes(CodeKind kind, int rows, int cols) {
    CodedMatrix header = {};
    header.kind = kind;
    header.scale_type = static_cast<ScaleType>(RandomInt(0, 4));
    header.bias_type = static_cast<ScaleType>(RandomInt(0, 2));
    header.row_shift = Chance(3) ? 31 : RandomInt(0, 1) * RandomInt(1, 7);
    header.col_shift = Chance(4) ? 31 : RandomInt(3, 8);
    header.first_row = header.row_shift == 31 ? 0 : RandomInt(0, (1 << header.row_shift) - 1);
    header.groups = ((cols - 1) >> header.col_shift) + 1;
    header.has_zeros = Chance(3);
    header.has_biases = Chance(3);
    const int bits = CodeBits(kind);
    header.zero = Chance(2) ? static_cast<float>(1 << (bits - 1)) : RandomInt(0, (1 << bits) - 1);
    header.factor = bits == 8 ? 1.0f / 64.0f : 0.25f;
    header.row_bytes = int64_t{1} * cols * bits / 8;
    for (float& value : header.values) value = RandomFloat() * 8.0f;
    const int64_t grid = (((rows - 1 + int64_t{header.first_row}) >> header.row_shift) + 1) * header.groups;
    header.codes = kCodedAlignment;
    header.scales = header.codes + Rounded(rows * header.row_bytes);
    header.zeros = header.scales + Rounded(grid * Size(header.scale_type));
    header.biases = header.zeros + Rounded(header.has_zeros * grid);
    const int64_t bytes = header.biases + Rounded(header.has_biases * grid * Size(header.bias_type));
    memory_ = std::make_unique<Guarded>(static_cast<size_t>(bytes), 256);
    unsigned char* data = memory_->data();
    std::memcpy(data, &header, sizeof(header));
    for (int64_t i = header.codes; i < header.scales; ++i) {
      data[i] = static_cast<unsigned char>(RandomInt(0, 255));
      if (kind == CodeKind::kE4m3 && (data[i] & 0x7f) == 0x7f) data[i] = 0x81;
    }
    for (int64_t i = 0; i < grid; ++i) {
      Store(data + header.scales, header.scale_type, i, 0.5f + std::fabs(RandomFloat()));
      if (header.has_zeros != 0)
        data[header.zeros + i] = static_cast<unsigned char>(RandomInt(0, (1 << bits) - 1));
      if (header.has_biases != 0) Store(data + header.biases, header.bias_type, i, RandomFloat());
    }
  }

  unsigned char* data() const { return memory_->data(); }
  const CodedMatrix& header() const { return *memory_->As<CodedMatrix>(); }

 private:
  static int Size(ScaleType type) { return 1 << PartShift(type); }
  static void Store(unsigned char* part, ScaleType type, int64_t i, float value) {
    if (type == ScaleType::kFloat32) {
      StoreAs(part, DType::kFloat32, i, value);
    } else if (type == ScaleType::kFloat16 || type == ScaleType::kBFloat16) {
      StoreAs(part, type == ScaleType::kFloat16 ? DType::kFloat16 : DType::kBFloat16, i, value);
    } else {
      part[i] = static_cast<unsigned char>((type == ScaleType::kE4m3 ? 0x30 : 125) + RandomInt(0, 3));
    }
  }

  std::unique_ptr<Guarded> memory_;
};

// Few rows or, as tiles, several, with steps that are whole or not, of elements rounded to the type.
void CheckProduct(GemmContext& gemm, CodeKind kind, DType dtype, bool tiles) {
  const int m = tiles ? RandomInt(17, Chance(4) ? 140 : 40) : Chance(2) ? 1 : RandomInt(2, 16);
  const int n = RandomInt(1, tiles ? 400 : 70);
  const int k = tiles ? (Chance(3) ? 8 * RandomInt(1, 40) : 32 * RandomInt(1, 12))
                      : 32 * RandomInt(1, Chance(3) ? 80 : 12);
  const RandomCodes codes(kind, n, k);
  const Tensor a(dtype, int64_t{1} * m * k, 1.0f);
  const int lost = kind == CodeKind::kE4m3 && Chance(2) ? RandomInt(0, n - 1) : -1;  // a row with a NaN
  if (lost >= 0)
    codes.data()[codes.header().codes + lost * codes.header().row_bytes + RandomInt(0, k - 1)] = 0xff;
  const CodedRows elements(codes.data());
  std::vector<double> expected(static_cast<size_t>(m) * n, 0.0);
  for (int column = 0; column < n; ++column) {
    for (int i = 0; column != lost && i < k; ++i) {
      double element = elements.Element(column, i);
      if (tiles) element = Rounded(dtype, element);
      for (int row = 0; row < m; ++row) expected[row * n + column] += a.values[row * k + i] * element;
    }
  }
  const Guarded out(expected.size() * sizeof(float), 4);
  LinearArgs args;
  args.dtype = dtype;
  args.m = m;
  args.n = n;
  args.k = k;
  args.a = a.memory.data();
  args.a_stride = k;
  args.w = codes.data();
  args.coded = true;
  args.out = out.data();
  args.out_dtype = DType::kFloat32;
  args.out_stride = n;
  EXPECT(LaunchLinear(gemm, args, nullptr) == cudaSuccess, "launch");
  for (int row = 0; row < m && lost >= 0; ++row) {
    float& value = out.As<float>()[row * n + lost];
    EXPECT(std::isnan(value), "a row with a NaN gives %g", value);
    value = 0.0f;
  }
  char what[160];
  const CodedMatrix& h = codes.header();
  std::snprintf(what, sizeof(what),
                "kind %d, [%d, %d] . [%d, %d], scales %d, groups 2^%d x 2^%d, zeros %d, biases %d",
                static_cast<int>(kind), m, k, n, k, static_cast<int>(h.scale_type), h.row_shift, h.col_shift,
                h.has_zeros, h.has_biases);
  // Nothing but the order of fp32 sums differs: codes and activations are exact.
  ExpectClose(out.data(), DType::kFloat32, expected, 2e-5, what);
}

}  // namespace

void CodedTilesMatchTheElements() {
  GemmContext* gemm = nullptr;
  EXPECT(CreateGemmContext(&gemm) == cudaSuccess, "context");
  for (int round = 0; round < 60; ++round) {
    for (const CodeKind kind :
         {CodeKind::kUint4, CodeKind::kUint8, CodeKind::kE4m3, CodeKind::kE2m1, CodeKind::kTable4}) {
      CheckProduct(*gemm, kind, round % 2 == 0 ? DType::kBFloat16 : DType::kFloat16, Chance(4));
    }
  }
  // Without the shared memory for its activations another kernel takes the product.
  const int limit = std::exchange(emulator::shared_memory_limit, 34 * 1024);
  CheckProduct(*gemm, CodeKind::kUint4, DType::kBFloat16, false);
  // In two stages instead of three.
  emulator::shared_memory_limit = 99 * 1024;
  CheckProduct(*gemm, CodeKind::kUint8, DType::kFloat16, true);
  emulator::shared_memory_limit = limit;
  DestroyGemmContext(gemm);
}
