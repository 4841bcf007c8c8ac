#include <algorithm>

#include "arch/isa.h"
#include "kernels.h"
#include "parallel.h"
#include "product.h"
#include "widen.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Tokens are taken in chunks whose packed activations stay below this.
constexpr int64_t kScratchBytes = 48 << 20;

constexpr int64_t kInlineValues = 64 * 1024;

// Depths of a tile's tokens that are packed at a time: whole blocks of every instruction set.
constexpr int64_t kPackedDepth = 512;

class LinearPass {
 public:
  LinearPass(const LinearArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args), table_(Kernels()), workspace_(workspace), pool_(pool) {}

  void Run() {
    x_ = workspace_.Take<const char*>(args_.count);
    biases_ = workspace_.Take<const float*>(args_.count);
    for (int i = 0; i < args_.count; ++i) {
      x_[i] = PackedFor(i);
      biases_[i] = WidenedBias(i);
    }
    Multiply();
  }

 private:
  XForm Form(int i) const { return XForm(table_, args_.weights[i], args_.precision, args_.tokens); }

  // Matrices that read the same form share one packed copy.
  const char* PackedFor(int i) {
    const XForm form = Form(i);
    for (int j = 0; j < i; ++j) {
      if (Form(j) == form) return x_[j];
    }
    char* packed = workspace_.Take<char>(args_.tokens * form.TokenBytes());
    const int64_t depth = args_.weights[i].cols;
    // Tokens of a tile may share lines of a cache, so one thread stores the same depths of them all.
    const int64_t pieces = CeilDiv(depth, kPackedDepth);
    const auto store = [&](int64_t, int64_t item) {
      const int64_t first = item / pieces * form.TileTokens();
      const int64_t k0 = item % pieces * kPackedDepth;
      for (int64_t t = first; t < std::min(args_.tokens, first + form.TileTokens()); ++t)
        form.Store(args_.x + t * depth + k0, t, k0, std::min(kPackedDepth, depth - k0), packed);
    };
    const int64_t items = CeilDiv(args_.tokens, form.TileTokens()) * pieces;
    if (args_.tokens * depth <= kInlineValues) {
      for (int64_t item = 0; item < items; ++item) store(0, item);
    } else {
      ParallelItems(pool_, items, store);
    }
    return packed;
  }

  const float* WidenedBias(int i) {
    if (args_.biases == nullptr || args_.biases[i].data == nullptr) return nullptr;
    const WeightMatrix& bias = args_.biases[i];
    const int64_t rows = args_.weights[i].rows;
    float* wide = workspace_.Take<float>(rows);
    Widen(bias.data, bias.dtype, rows, wide);
    return wide;
  }

  void Multiply() {
    StageWork work{.threads = pool_.NumThreads()};
    for (int i = 0; i < args_.count; ++i) work.Add(args_.weights[i].rows, Form(i).tiles());
    BlockPlan plan(workspace_, args_.count);
    int64_t scratch = 0;
    for (int i = 0; i < args_.count; ++i) {
      const int64_t rows = RowsPerBlock(work, args_.weights[i], 1, Form(i));
      plan.Add(args_.weights[i].rows, rows, Form(i).tiles(), TilesPerBlock(work, rows));
      scratch = std::max(scratch, RowBlock::PanelBytes(table_, args_.weights[i], Form(i), rows));
    }
    char* scratches = workspace_.Take<char>(scratch * work.threads);
    ParallelItems(pool_, plan.items(), [&](int64_t slot, int64_t item) {
      MultiplyBlock(plan.Find(item), scratches + slot * scratch);
    });
  }

  void MultiplyBlock(const BlockPlan::Block& block, char* panel) {
    const int i = static_cast<int>(block.run);
    const WeightMatrix& weights = args_.weights[i];
    const XForm form = Form(i);
    const RowBlock rows(table_, weights, args_.precision, form, block.row0, block.row1, panel);
    rows.ForEachPart(block.tile0, block.tile1, [&](const RowBlock::Part& part) {
      const int64_t row = block.row0 + part.row0;
      float* y = args_.outputs[i] + part.token * weights.rows + row;
      rows.Multiply(x_[i], part, y, weights.rows);
      if (biases_[i] == nullptr) return;
      for (int64_t t = 0; t < part.tokens; ++t) {
        table_.scale_add(biases_[i] + row, 1.0f, part.row1 - part.row0, y + t * weights.rows, true);
      }
    });
  }

  const LinearArgs& args_;
  const KernelTable& table_;
  Workspace& workspace_;
  ThreadPool& pool_;
  const char** x_ = nullptr;
  const float** biases_ = nullptr;  // fp32; null: none
};

}  // namespace

void Linear(const LinearArgs& args, Workspace& workspace, ThreadPool& pool) {
  if (args.count == 0) return;
  const int64_t depth = args.weights[0].cols;
  const int64_t chunk = std::max<int64_t>(kTileTokens, kScratchBytes / (RoundUp(depth, 64) * 4));
  for (int64_t t = 0; t < args.tokens; t += chunk) {
    workspace.Reset();
    float** outputs = workspace.Take<float*>(args.count);
    for (int i = 0; i < args.count; ++i) outputs[i] = args.outputs[i] + t * args.weights[i].rows;
    LinearArgs part = args;
    part.tokens = std::min(chunk, args.tokens - t);
    part.x += t * depth;
    part.outputs = outputs;
    LinearPass(part, workspace, pool).Run();
  }
}

}  // namespace switchyard::cpu
