// Quantized weights: every storage as codes on the device, through every kernel that reads them, against the
// specification (common/quantized_elements.h) in double precision.
#include <memory>
#include <set>
#include <string>

#include "../../../kernels/cuda/coded_matrix.h"
#include "../../../kernels/devices/cuda/coded_contents.h"
#include "../cpu/testing_quantized.h"
#include "emulated.h"

namespace {

using namespace switchyard;
using namespace switchyard::cuda;
using cpu::AllStorages;
using cpu::QuantizedWeights;
using cpu::Storage;
using ops::CanKeepCodes;
using ops::Contents;
using testing::ExpectClose;
using testing::Guarded;
using testing::kTypes;
using testing::RandomInt;
using testing::Tensor;
using testing::Tolerance;

// What cannot stay codes on a device: groups that are no powers of two, or lie anywhere.
const std::set<std::string> kExpanded = {"fp8 in small blocks", "fp8 in small blocks, transposed",
                                         "int4 in odd groups", "int4 with column groups",
                                         "gptq int4 with act order"};

cpu::Random& Numbers() {
  static cpu::Random random(20250117);
  return random;
}

// What a device would hold, brought in several runs of items.
std::unique_ptr<Guarded> Bring(const Contents& contents, DType dtype) {
  auto memory = std::make_unique<Guarded>(static_cast<size_t>(contents.bytes), 256);
  for (const auto& [source, offset] : contents.parts) {
    for (int64_t first = 0; first < source->count();) {
      const int64_t count = std::min<int64_t>(source->count() - first, RandomInt(1, 40));
      std::vector<std::byte> read(static_cast<size_t>(count * source->item_bytes()));
      source->Read(first, count, read.data());
      unsigned char* to = memory->data() + offset + first * source->DeviceBytes(dtype);
      if (source->elements() == 0) {
        std::memcpy(to, read.data(), read.size());
      } else {
        for (int64_t i = 0; i < count * source->elements(); ++i)
          StoreAs(to, dtype, i, LoadAs(read.data(), source->type(), i));
      }
      first += count;
    }
  }
  return memory;
}

// A matrix of `rows` outputs in a larger stored one.
class Quantized {
 public:
  Quantized(const Storage& storage, int rows, int cols)
      : weights_(Numbers(), storage, rows + kBefore, cols, 0.4f) {
    const QuantizedTensor& q = weights_.tensor();
    tensor_.name = storage.name;
    tensor_.quantized = std::shared_ptr<const QuantizedTensor>(std::shared_ptr<void>(), &q);
    const int64_t width = storage.transposed ? cols : q.cols;
    ref_ = {.values = &tensor_,
            .first_row = storage.transposed ? q.rows : kBefore,
            .first_col = storage.transposed ? kBefore : 0,
            .rows = rows,
            .cols = width,
            .stride = q.cols,
            .transposed = storage.transposed};
  }
  Quantized(const Quantized&) = delete;
  Quantized& operator=(const Quantized&) = delete;

  const WeightRef& ref() const { return ref_; }
  int cols() const { return static_cast<int>(ref_.cols); }
  double Value(int64_t n, int64_t k) const {
    const QuantizedTensor& q = weights_.tensor();
    return ref_.transposed ? QuantizedElement(q, 1, k, n + kBefore) : QuantizedElement(q, 0, n + kBefore, k);
  }
  // As codes.
  const unsigned char* Codes() {
    if (codes_ == nullptr) codes_ = Bring(ops::CodedContents(ref_), DType::kFloat32);
    return codes_->data();
  }

 private:
  static constexpr int kBefore = 5;  // rows before the matrix
  QuantizedWeights weights_;
  StoredTensor tensor_;
  WeightRef ref_;
  std::unique_ptr<Guarded> codes_;
};

// Columns that suit every storage.
int RandomCols() { return 16 * RandomInt(1, 21); }

const Storage& RandomKeptStorage() {
  for (;;) {
    const Storage& storage = AllStorages()[static_cast<size_t>(RandomInt(0, AllStorages().size() - 1))];
    // Groups of nf4 that cross rows are not kept.
    if (!kExpanded.contains(storage.name) && storage.group_rows != 0) return storage;
  }
}

// Codes take the bits they have, up to 4 or 8, and their groups what is stored for each.
void CheckBytes(const Quantized& w, const Storage& storage) {
  const auto groups = [](int64_t count, int64_t size) { return (count + size - 1) / size + 1; };
  const WeightRef& ref = w.ref();
  const int64_t codes = ref.rows * ref.cols * (storage.bits <= 4 ? 4 : 8) / 8;
  const int64_t grid =
      storage.transposed
          ? groups(ref.rows, storage.group_cols) * groups(ref.cols, storage.group_rows)
          : groups(ref.rows, std::max<int64_t>(storage.group_rows, 1)) * groups(ref.cols, storage.group_cols);
  const bool wide = storage.scale_type == ScaleType::kFloat32 || storage.scale_type == ScaleType::kTable;
  const bool narrow = storage.scale_type == ScaleType::kE4m3 || storage.scale_type == ScaleType::kExponent;
  const int64_t scale = wide ? 4 : narrow ? 1 : 2;
  const int64_t group = scale + (storage.zero_order >= 0 ? 1 : 0) + (storage.biases ? 2 : 0);
  const int64_t most = codes + grid * group + kCodedAlignment * 2 + 64;
  const int64_t bytes = ops::CodedContents(ref).bytes;
  EXPECT(bytes <= most, "%s takes %lld bytes, not %lld", storage.name, static_cast<long long>(bytes),
         static_cast<long long>(most));
}

std::vector<double> ReferenceRows(const Quantized& w, const Tensor& x, int64_t tokens, int rows) {
  std::vector<double> out;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int n = 0; n < rows; ++n) {
      double sum = 0.0;
      for (int k = 0; k < w.cols(); ++k) sum += x.values[t * w.cols() + k] * w.Value(n, k);
      out.push_back(sum);
    }
  }
  return out;
}

}  // namespace

// Single elements, by the kernel that looks up rows; those that are expanded are the specification's own.
void CodesAreWhatTheSpecificationSays() {
  for (const Storage& storage : AllStorages()) {
    for (int round = 0; round < 4; ++round) {
      const int rows = RandomInt(1, 300), cols = round == 0 ? 128 : RandomCols();
      Quantized w(storage, rows, cols);
      std::vector<double> expected;
      const std::vector<int64_t> ids = {rows - 1, 0, rows / 2};
      for (const int64_t id : ids) {
        for (int k = 0; k < w.cols(); ++k) expected.push_back(w.Value(id, k));
      }
      const bool crosses = storage.group_rows == 0 && w.cols() % storage.group_cols != 0;
      const bool kept = !kExpanded.contains(storage.name) && !crosses;
      // Groups that are larger than the matrix are kept whatever their size.
      if (cols > 64) EXPECT(CanKeepCodes(w.ref()) == kept, "%s [%d, %d]", storage.name, rows, cols);
      const Guarded out(expected.size() * 4, 4);
      if (CanKeepCodes(w.ref())) {
        CheckBytes(w, storage);
        EXPECT(LaunchCodedEmbeddingRows(w.Codes(), w.cols(), ids.data(), 3, out.As<float>(), nullptr) ==
                   cudaSuccess,
               "launch");
        ExpectClose(out.data(), DType::kFloat32, expected, 1e-6, storage.name);
      }
      const auto elements = Bring(ops::ExpandedContents(w.ref(), DType::kFloat32), DType::kFloat32);
      EXPECT(LaunchEmbeddingRows(elements->data(), DType::kFloat32, w.cols(), ids.data(), 3, out.data(),
                                 DType::kFloat32, nullptr) == cudaSuccess,
             "launch");
      ExpectClose(out.data(), DType::kFloat32, expected, 0.0, storage.name);
    }
  }
}

// Rows of every kernel: one, several, tiles of tensor cores, and more than a tile.
void CodedLinearMatchesTheReference() {
  GemmContext* gemm = nullptr;
  EXPECT(CreateGemmContext(&gemm) == cudaSuccess, "context");
  emulator::bank_conflicts = 0;
  for (const Storage& storage : AllStorages()) {
    const DType dtype = kTypes[RandomInt(0, 2)];
    for (const int m : {1, 1, RandomInt(2, 16), RandomInt(2, 16), RandomInt(17, 60)}) {
      const int n = RandomInt(1, 300);
      // Every other one is of a width that tensor cores take for few rows.
      Quantized w(storage, n, RandomInt(0, 1) == 0 ? RandomCols() : 32 * RandomInt(1, 20));
      if (!CanKeepCodes(w.ref())) continue;
      const int k = w.cols();
      const Tensor a(dtype, int64_t{1} * m * k, 1.0f), bias(dtype, n, 1.0f, 2);
      std::vector<double> expected = ReferenceRows(w, a, m, n);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += bias.values[i % n];
      const DType out_dtype = RandomInt(0, 1) == 0 ? dtype : DType::kFloat32;
      const Guarded out(expected.size() * ElementSize(out_dtype), 2);
      LinearArgs args;
      args.dtype = dtype;
      args.m = m;
      args.n = n;
      args.k = k;
      args.a = a.memory.data();
      args.a_stride = k;
      args.w = w.Codes();
      args.coded = true;
      args.bias = bias.memory.data();
      args.out = out.data();
      args.out_dtype = out_dtype;
      args.out_stride = n;
      EXPECT(LaunchLinear(*gemm, args, nullptr) == cudaSuccess, "%s, %d rows", storage.name, m);
      ExpectClose(out.data(), out_dtype, expected, Tolerance(dtype), storage.name);
      args.k -= 1;
      EXPECT(LaunchLinear(*gemm, args, nullptr) == cudaErrorInvalidValue, "k of %d", k - 1);
    }
  }
  EXPECT(emulator::bank_conflicts == 0, "%lld matrix loads met bank conflicts",
         static_cast<long long>(emulator::bank_conflicts));
  DestroyGemmContext(gemm);
}

namespace {

// So small that activations stay within fp16.
constexpr float kInputs = 0.02f;

// A layer whose matrices are stored in whatever way each.
struct CodedExperts {
  CodedExperts(DType dtype, int count, int hidden, int intermediate) {
    const void* pointers[3][64];
    for (int e = 0; e < count; ++e) {
      const int rows[] = {intermediate, intermediate, hidden}, cols[] = {hidden, hidden, intermediate};
      for (int part = 0; part < 3; ++part) {
        matrices.push_back(std::make_unique<Quantized>(RandomKeptStorage(), rows[part], cols[part]));
        pointers[part][e] = matrices.back()->Codes();
      }
    }
    table.dtype = dtype;
    table.num_experts = count;
    table.hidden = hidden;
    table.intermediate = intermediate;
    host.resize(3 * count);
    FillSeparateExperts(pointers[0], pointers[1], pointers[2], host.data(), host.data(), &table);
    table.coded = true;
  }
  const Quantized& Part(int expert, int part) const { return *matrices[expert * 3 + part]; }

  std::vector<double> Reference(const Tensor& x, const std::vector<int>& indices,
                                const std::vector<float>& weights, int top_k) const {
    const int hidden = table.hidden, intermediate = table.intermediate;
    std::vector<double> y(indices.size() / top_k * hidden, 0.0);
    for (size_t pair = 0; pair < indices.size(); ++pair) {
      const float* row = x.values.data() + pair / top_k * hidden;
      std::vector<double> activations(intermediate);
      for (int i = 0; i < intermediate; ++i) {
        double gate = 0.0, up = 0.0;
        for (int h = 0; h < hidden; ++h) {
          gate += row[h] * Part(indices[pair], 0).Value(i, h);
          up += row[h] * Part(indices[pair], 1).Value(i, h);
        }
        activations[i] = gate / (1.0 + std::exp(-gate)) * up;
      }
      for (int h = 0; h < hidden; ++h) {
        double sum = 0.0;
        for (int i = 0; i < intermediate; ++i) sum += activations[i] * Part(indices[pair], 2).Value(h, i);
        y[pair / top_k * hidden + h] += weights[pair] * sum;
      }
    }
    return y;
  }

  std::vector<std::unique_ptr<Quantized>> matrices;
  std::vector<const void*> host;
  ExpertTable table;
};

cudaError_t LaunchMoe(GemmContext& gemm, ExpertsImplementation implementation, const MoeExpertsArgs& args) {
  if (implementation == ExpertsImplementation::kBatchedMm) return LaunchMoeBatchedMm(args, nullptr);
  if (implementation == ExpertsImplementation::kGroupedMm) return LaunchMoeGroupedMm(args, nullptr);
  return LaunchMoeEager(gemm, args, nullptr);
}

void CheckExperts(DType dtype, int tokens, int count, int top_k, int hidden, int intermediate) {
  GemmContext* gemm = nullptr;
  EXPECT(CreateGemmContext(&gemm) == cudaSuccess, "context");
  const CodedExperts experts(dtype, count, hidden, intermediate);
  const Tensor x(dtype, int64_t{1} * tokens * hidden, kInputs);
  const std::vector<int> indices = testing::Route(testing::Routing::kSkewed, tokens, top_k, count);
  std::vector<float> weights(indices.size());
  for (float& weight : weights) weight = std::fabs(testing::RandomFloat());
  const std::vector<double> expected = experts.Reference(x, indices, weights, top_k);
  for (const auto implementation : {ExpertsImplementation::kEager, ExpertsImplementation::kBatchedMm,
                                    ExpertsImplementation::kGroupedMm}) {
    const Guarded y(expected.size() * 4);
    const size_t bytes = MoeWorkspaceBytes(implementation, experts.table, tokens, top_k);
    const Guarded workspace(bytes);
    MoeExpertsArgs args;
    args.x = x.memory.data();
    args.tokens = tokens;
    args.experts = experts.table;
    args.indices = indices.data();
    args.weights = weights.data();
    args.top_k = top_k;
    args.y = y.data();
    args.y_dtype = DType::kFloat32;
    args.use_wgmma = true;  // which codes do not take
    args.workspace = workspace.data();
    args.workspace_bytes = bytes;
    EXPECT(LaunchMoe(*gemm, implementation, args) == cudaSuccess, "launch");
    ExpectClose(y.data(), DType::kFloat32, expected, Tolerance(dtype), "y");
    args.experts.hidden -= 1;
    EXPECT(LaunchMoe(*gemm, implementation, args) == cudaErrorInvalidValue, "hidden of %d", hidden - 1);
  }
  DestroyGemmContext(gemm);
}

}  // namespace

void CodedExpertsMatchTheReference() {
  for (const DType dtype : kTypes) {
    CheckExperts(dtype, 5, 6, 3, 80, 48);
    CheckExperts(dtype, 1, 4, 2, 48, 80);
    // Sizes that tensor cores take, whole steps and not; more experts a token than a block has warps.
    CheckExperts(dtype, 2, 9, 5, 32 * RandomInt(1, 12), 32 * RandomInt(1, 12));
    CheckExperts(dtype, 3, 24, 18, 32 * RandomInt(1, 6), 32 * RandomInt(1, 6));
  }
  // Several tiles of rows and of columns, k longer than the pipeline.
  CheckExperts(DType::kBFloat16, 150, 2, 1, 288, 144);
}

void CodedGatedMlpMatchesTheReference() {
  for (const int tokens : {3, 20}) {
    const CodedExperts mlp(DType::kFloat16, 1, 80, 48);
    const Tensor x(DType::kFloat16, int64_t{1} * tokens * 80, kInputs);
    const auto expected = mlp.Reference(x, std::vector<int>(tokens, 0), std::vector<float>(tokens, 1.0f), 1);
    const size_t bytes = GatedMlpWorkspaceBytes(mlp.table, tokens);
    const Guarded y(expected.size() * 4), workspace(bytes);
    GatedMlpArgs args;
    args.x = x.memory.data();
    args.tokens = tokens;
    args.mlp = mlp.table;
    args.mlp.gate.device = args.mlp.up.device = args.mlp.down.device = nullptr;
    args.y = y.data();
    args.y_dtype = DType::kFloat32;
    args.workspace = workspace.data();
    args.workspace_bytes = bytes;
    EXPECT(LaunchGatedMlp(args, nullptr) == cudaSuccess, "%d tokens", tokens);
    ExpectClose(y.data(), DType::kFloat32, expected, Tolerance(DType::kFloat16), "y");
  }
}
