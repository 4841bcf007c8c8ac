#include "expert_runs.h"

#include <algorithm>
#include <new>
#include <type_traits>

#include "parallel.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

// Below so many values, packing activations on the calling thread beats waking the others.
constexpr int64_t kInlineValues = 64 * 1024;

// Tokens that one thread packs at a time, at least.
constexpr int64_t kPackedTogether = 24;

// One run's activations for its three products.
struct RunForms {
  XForm gate, up, down;

  RunForms(const KernelTable& table, const ExpertRun& run, Precision precision)
      : gate(table, run.weights->gate, precision, run.count),
        up(table, run.weights->up, precision, run.count),
        down(table, run.weights->down, precision, run.count) {
    XForm::Align(gate, up);
  }
};
// They lie in a workspace.
static_assert(std::is_trivially_destructible_v<RunForms>);

class ExpertPass {
 public:
  ExpertPass(const ExpertRunsArgs& args, Workspace& workspace, ThreadPool& pool)
      : args_(args), table_(Kernels()), workspace_(workspace), pool_(pool) {
    for (int64_t r = 0; r < args.run_count; ++r) positions_ += args.runs[r].count;
    hidden_ = args.runs[0].weights->gate.cols;
    TakeForms();
    TakeBuffers();
  }

  void Run() {
    PackInputs();
    GateAndUp();
    Down();
  }

 private:
  void TakeForms() {
    forms_ = workspace_.Take<RunForms>(args_.run_count);
    for (int64_t r = 0; r < args_.run_count; ++r)
      new (&forms_[r]) RunForms(table_, args_.runs[r], args_.precision);
  }

  void TakeBuffers() {
    bool split = false;
    h_starts_ = workspace_.Take<int64_t>(args_.run_count);
    int64_t h_bytes = 0;
    for (int64_t r = 0; r < args_.run_count; ++r) {
      const RunForms& forms = forms_[r];
      x_bytes_ = std::max({x_bytes_, forms.gate.TokenBytes(), forms.up.TokenBytes()});
      h_starts_[r] = h_bytes;
      h_bytes += args_.runs[r].count * forms.down.TokenBytes();
      split = split || !(forms.gate == forms.up);
    }
    x_gate_ = workspace_.Take<char>(positions_ * x_bytes_);
    x_up_ = split ? workspace_.Take<char>(positions_ * x_bytes_) : x_gate_;
    h_ = workspace_.Take<char>(h_bytes);
  }

  void PackInputs() {
    BlockPlan plan(workspace_, args_.run_count);
    for (int64_t r = 0; r < args_.run_count; ++r) {
      const int64_t tokens = forms_[r].gate.TileTokens();
      plan.Add(1, 1, CeilDiv(args_.runs[r].count, tokens), CeilDiv(kPackedTogether, tokens));
    }
    const auto pack = [&](int64_t, int64_t item) { PackBlock(plan.Find(item)); };
    if (positions_ * hidden_ <= kInlineValues) {
      for (int64_t item = 0; item < plan.items(); ++item) pack(0, item);
    } else {
      ParallelItems(pool_, plan.items(), pack);
    }
  }

  void PackBlock(const BlockPlan::Block& block) {
    const ExpertRun& run = args_.runs[block.run];
    const RunForms& forms = forms_[block.run];
    const int64_t end = std::min(run.count, block.tile1 * forms.gate.TileTokens());
    for (int64_t t = block.tile0 * forms.gate.TileTokens(); t < end; ++t) {
      const int64_t token = args_.tokens != nullptr ? args_.tokens[run.first + t] : run.first + t;
      const float* x = args_.x + token * hidden_;
      forms.gate.Store(x, t, 0, hidden_, x_gate_ + run.first * x_bytes_);
      if (x_up_ != x_gate_) forms.up.Store(x, t, 0, hidden_, x_up_ + run.first * x_bytes_);
    }
  }

  // h = silu(gate x) * up x, stored as `down` wants to read it.
  void GateAndUp() {
    StageWork work{.threads = pool_.NumThreads()};
    for (int64_t r = 0; r < args_.run_count; ++r) {
      work.Add(args_.runs[r].weights->gate.rows, forms_[r].gate.tiles());
    }
    BlockPlan plan(workspace_, args_.run_count);
    int64_t scratch = 0;
    for (int64_t r = 0; r < args_.run_count; ++r) {
      const ExpertWeights& weights = *args_.runs[r].weights;
      const RunForms& forms = forms_[r];
      const int64_t rows = std::min(RowsPerBlock(work, weights.gate, 2, forms.gate),
                                    RowsPerBlock(work, weights.up, 2, forms.up));
      plan.Add(weights.gate.rows, rows, forms.gate.tiles(), TilesPerBlock(work, rows));
      scratch = std::max(scratch, GateUpScratch(weights, forms, rows));
    }
    char* scratches = workspace_.Take<char>(scratch * work.threads);
    ParallelItems(
        pool_, plan.items(),
        [&](int64_t slot, int64_t item, int64_t next) {
          GateUpBlock(plan, item, next, scratches + slot * scratch);
        },
        args_.from);
  }

  int64_t GateUpScratch(const ExpertWeights& weights, const RunForms& forms, int64_t rows) const {
    return 2 * TileBytes(rows) + RowBlock::PanelBytes(table_, weights.gate, forms.gate, rows) +
           RowBlock::PanelBytes(table_, weights.up, forms.up, rows);
  }

  static int64_t TileBytes(int64_t rows) {
    return RoundUp(RowBlock::MostResults(rows) * static_cast<int64_t>(sizeof(float)), 64);
  }

  void GateUpBlock(const BlockPlan& plan, int64_t item, int64_t next, char* scratch) {
    const BlockPlan::Block block = plan.Find(item);
    const ExpertRun& run = args_.runs[block.run];
    const ExpertWeights& weights = *run.weights;
    const RunForms& forms = forms_[block.run];
    const int64_t rows = block.row1 - block.row0;
    float* gate = reinterpret_cast<float*>(scratch);
    float* up = reinterpret_cast<float*>(scratch + TileBytes(rows));
    char* panel = scratch + 2 * TileBytes(rows);
    RowBlock gate_rows(table_, weights.gate, args_.precision, forms.gate, block.row0, block.row1, panel);
    RowBlock up_rows(table_, weights.up, args_.precision, forms.up, block.row0, block.row1,
                     panel + RowBlock::PanelBytes(table_, weights.gate, forms.gate, rows));
    if (next >= 0) {
      const BlockPlan::Block after = plan.Find(next);
      const ExpertWeights& its = *args_.runs[after.run].weights;
      gate_rows.Precedes(its.gate, forms_[after.run].gate, after.row0);
      up_rows.Precedes(its.up, forms_[after.run].up, after.row0);
    }
    gate_rows.ForEachPart(block.tile0, block.tile1, [&](const RowBlock::Part& part) {
      const int64_t width = part.row1 - part.row0;
      gate_rows.Multiply(x_gate_ + run.first * x_bytes_, part, gate, width);
      up_rows.Multiply(x_up_ + run.first * x_bytes_, part, up, width);
      table_.silu_mul(gate, up, part.tokens * width, gate);
      for (int64_t t = 0; t < part.tokens; ++t) {
        forms.down.Store(gate + t * width, part.token + t, block.row0 + part.row0, width,
                         h_ + h_starts_[block.run]);
      }
    });
  }

  void Down() {
    StageWork work{.threads = pool_.NumThreads()};
    for (int64_t r = 0; r < args_.run_count; ++r) {
      work.Add(args_.runs[r].weights->down.rows, forms_[r].down.tiles());
    }
    BlockPlan plan(workspace_, args_.run_count);
    int64_t scratch = 0;
    for (int64_t r = 0; r < args_.run_count; ++r) {
      const WeightMatrix& down = args_.runs[r].weights->down;
      const XForm& form = forms_[r].down;
      const int64_t rows = RowsPerBlock(work, down, 1, form);
      plan.Add(down.rows, rows, form.tiles(), TilesPerBlock(work, rows));
      scratch = std::max(scratch, RowBlock::PanelBytes(table_, down, form, rows));
    }
    char* scratches = workspace_.Take<char>(scratch * work.threads);
    ParallelItems(
        pool_, plan.items(),
        [&](int64_t slot, int64_t item, int64_t next) {
          DownBlock(plan, item, next, scratches + slot * scratch);
        },
        args_.from);
  }

  void DownBlock(const BlockPlan& plan, int64_t item, int64_t next, char* panel) {
    const BlockPlan::Block block = plan.Find(item);
    const ExpertRun& run = args_.runs[block.run];
    const WeightMatrix& down = run.weights->down;
    const XForm& form = forms_[block.run].down;
    RowBlock rows(table_, down, args_.precision, form, block.row0, block.row1, panel);
    if (next >= 0) {
      const BlockPlan::Block after = plan.Find(next);
      rows.Precedes(args_.runs[after.run].weights->down, forms_[after.run].down, after.row0);
    }
    rows.ForEachPart(block.tile0, block.tile1, [&](const RowBlock::Part& part) {
      float* out = args_.out + (run.first + part.token) * down.rows + block.row0 + part.row0;
      rows.Multiply(h_ + h_starts_[block.run], part, out, down.rows);
    });
  }

  const ExpertRunsArgs& args_;
  const KernelTable& table_;
  Workspace& workspace_;
  ThreadPool& pool_;
  RunForms* forms_ = nullptr;  // each run's
  int64_t positions_ = 0;
  int64_t hidden_ = 0;
  int64_t x_bytes_ = 0;  // of one position
  char* x_gate_ = nullptr;
  char* x_up_ = nullptr;  // x_gate_ where both products read the same form
  char* h_ = nullptr;
  int64_t* h_starts_ = nullptr;  // bytes before each run's
};

}  // namespace

void RunExperts(const ExpertRunsArgs& args, Workspace& workspace, ThreadPool& pool) {
  if (args.run_count == 0) return;
  const Workspace::Mark mark = workspace.mark();
  ExpertPass(args, workspace, pool).Run();
  workspace.Rewind(mark);
}

int64_t ExpertScratchBytes(int64_t hidden, int64_t intermediate) {
  return (RoundUp(hidden, 64) + RoundUp(intermediate, 64)) * static_cast<int64_t>(sizeof(float));
}

}  // namespace switchyard::cpu
