#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "arch/isa.h"
#include "delta_rule.h"
#include "kernels.h"
#include "parallel.h"
#include "product.h"
#include "workspace.h"

namespace switchyard::cpu {
namespace {

// Below so many values, the calling thread convolves alone.
constexpr int64_t kInlineValues = 16 * 1024;

// Added to the sum of squares of a query or key before it is divided by the root.
constexpr float kLengthEpsilon = 1e-6f;

class DeltaNetPass {
 public:
  DeltaNetPass(const GatedDeltaNetArgs& args, Workspace& workspace, ThreadPool& pool);

  void Run() {
    Convolve();
    for (const RecurrentRow& row : rows_) KeepInputs(row);
    Mix();
  }

 private:
  // Channels of one key head that lie side by side, in the inputs and in the convolution.
  struct Part {
    const KeyHeadValues* values;
    int64_t channel, count;
  };
  template <typename Body>
  void ForParts(const Body& body) const;
  const float* Input(const Part& part, int64_t key_head, int64_t token) const {
    return part.values->data + token * part.values->token_stride + key_head * part.values->head_stride;
  }
  float* Mixed(int64_t token) const { return mixed_ + token * channels_; }

  void Convolve();
  void ConvolveToken(const RecurrentRow& row, int64_t token);
  void GateToken(int64_t token);
  // Leaves what the row's next token has to know of these ones.
  void KeepInputs(const RecurrentRow& row) const;
  void Mix();
  void MixHead(const RecurrentRow& row, int64_t head, float* scratch) const;

  const GatedDeltaNetArgs& args_;
  const KernelTable& table_;
  ThreadPool& pool_;
  const DeltaChunks chunks_;
  const int64_t group_;  // value heads of a key head
  const int64_t keys_;   // channels of all keys
  const int64_t channels_;
  const int64_t scratch_floats_;
  std::vector<RecurrentRow> rows_;  // those with tokens, the longest first
  float* mixed_;                    // [tokens, channels]: convolved; q and k of length 1, q also scaled
  float* decay_;                    // [value_heads, tokens]
  float* beta_;                     // [value_heads, tokens]
  float* scratch_;                  // [threads, scratch_floats_]
  float* zeros_;                    // [channels]
  float *query_norm_, *key_norm_;   // [key_dim]: what turns an RMS norm into the length's
};

DeltaNetPass::DeltaNetPass(const GatedDeltaNetArgs& args, Workspace& workspace, ThreadPool& pool)
    : args_(args),
      table_(Kernels()),
      pool_(pool),
      chunks_(table_, args.key_dim, args.value_dim),
      group_(args.value_heads / args.key_heads),
      keys_(args.key_heads * args.key_dim),
      channels_(2 * keys_ + args.value_heads * args.value_dim),
      scratch_floats_(RoundUp(std::max(chunks_.ScratchFloats(), args.value_dim), 16)),
      mixed_(workspace.Take<float>(args.tokens * channels_)),
      decay_(workspace.Take<float>(args.value_heads * args.tokens)),
      beta_(workspace.Take<float>(args.value_heads * args.tokens)),
      scratch_(workspace.Take<float>(pool.NumThreads() * scratch_floats_)),
      zeros_(workspace.Take<float>(channels_)),
      query_norm_(workspace.Take<float>(args.key_dim)),
      key_norm_(workspace.Take<float>(args.key_dim)) {
  std::fill_n(zeros_, channels_, 0.0f);
  const float size = static_cast<float>(args.key_dim);
  std::fill_n(query_norm_, args.key_dim, 1.0f / size);
  std::fill_n(key_norm_, args.key_dim, 1.0f / std::sqrt(size));
  for (int64_t r = 0; r < args.row_count; ++r)
    if (args.rows[r].tokens > 0) rows_.push_back(args.rows[r]);
  std::stable_sort(rows_.begin(), rows_.end(),
                   [](const RecurrentRow& a, const RecurrentRow& b) { return a.tokens > b.tokens; });
}

template <typename Body>
void DeltaNetPass::ForParts(const Body& body) const {
  const int64_t values = group_ * args_.value_dim;
  for (int64_t g = 0; g < args_.key_heads; ++g) {
    body(Part{&args_.q, g * args_.key_dim, args_.key_dim}, g);
    body(Part{&args_.k, keys_ + g * args_.key_dim, args_.key_dim}, g);
    body(Part{&args_.v, 2 * keys_ + g * values, values}, g);
  }
}

void DeltaNetPass::Convolve() {
  std::vector<const RecurrentRow*> row_of(static_cast<size_t>(args_.tokens), nullptr);
  for (const RecurrentRow& row : rows_) std::fill_n(row_of.begin() + row.first, row.tokens, &row);
  const auto convolve = [&](int64_t, int64_t token) {
    ConvolveToken(*row_of[static_cast<size_t>(token)], token);
    GateToken(token);
  };
  if (args_.tokens * channels_ > kInlineValues) return ParallelItems(pool_, args_.tokens, convolve);
  for (int64_t token = 0; token < args_.tokens; ++token) convolve(0, token);
}

void DeltaNetPass::ConvolveToken(const RecurrentRow& row, int64_t token) {
  const int64_t context = args_.kernel - 1;
  const int64_t place = token - row.first;
  float* mixed = Mixed(token);
  ForParts([&](const Part& part, int64_t g) {
    const float* taps[kMaxConvTaps];
    for (int64_t tap = 0; tap < args_.kernel; ++tap) {
      const int64_t from = place + tap - context;  // place of the token that it looks at
      const float* before = row.fresh ? zeros_ : row.conv + (place + tap) * channels_;
      taps[tap] = from < 0 ? before + part.channel : Input(part, g, row.first + from);
    }
    table_.conv_silu({.x = taps,
                      .w = args_.conv + part.channel,
                      .w_stride = channels_,
                      .taps = args_.kernel,
                      .channels = part.count,
                      .out = mixed + part.channel});
  });
  const float epsilon = kLengthEpsilon / static_cast<float>(args_.key_dim);
  float* normed = mixed_ + token * channels_;
  for (int64_t g = 0; g < 2 * args_.key_heads; ++g) {
    float* head = normed + g * args_.key_dim;
    const float* norm = g < args_.key_heads ? query_norm_ : key_norm_;
    table_.norm_rotate(head, norm, epsilon, nullptr, nullptr, 0, args_.key_dim, head);
  }
}

void DeltaNetPass::GateToken(int64_t token) {
  for (int64_t h = 0; h < args_.value_heads; ++h) {
    const auto value = [&](const KeyHeadValues& of) {
      return of.data[token * of.token_stride + h / group_ * of.head_stride + h % group_];
    };
    const float a = value(args_.a) + args_.dt_bias[h];
    const float softplus = a > 20.0f ? a : std::log1p(std::exp(a));
    decay_[h * args_.tokens + token] = std::exp(-std::exp(args_.a_log[h]) * softplus);
    beta_[h * args_.tokens + token] = 1.0f / (1.0f + std::exp(-value(args_.b)));
  }
}

void DeltaNetPass::KeepInputs(const RecurrentRow& row) const {
  const int64_t context = args_.kernel - 1;
  for (int64_t i = 0; i < context; ++i) {
    float* kept = row.conv + i * channels_;
    const int64_t from = row.tokens + i - context;  // place of the token whose inputs go there
    if (from < 0) {
      // What was kept of earlier tokens moves towards the front, which is not read again.
      const float* before = row.fresh ? zeros_ : row.conv + (row.tokens + i) * channels_;
      std::memmove(kept, before, static_cast<size_t>(channels_) * sizeof(float));
      continue;
    }
    ForParts([&](const Part& part, int64_t g) {
      std::memcpy(kept + part.channel, Input(part, g, row.first + from),
                  static_cast<size_t>(part.count) * sizeof(float));
    });
  }
}

void DeltaNetPass::Mix() {
  const int64_t heads = args_.value_heads;
  ParallelItems(pool_, static_cast<int64_t>(rows_.size()) * heads, [&](int64_t slot, int64_t item) {
    MixHead(rows_[static_cast<size_t>(item / heads)], item % heads, scratch_ + slot * scratch_floats_);
  });
}

void DeltaNetPass::MixHead(const RecurrentRow& row, int64_t head, float* scratch) const {
  const int64_t dim = args_.value_dim;
  const int64_t key_head = head / group_;
  float* state = row.state + head * args_.key_dim * dim;
  if (row.fresh) std::fill_n(state, args_.key_dim * dim, 0.0f);
  const float* mixed = Mixed(row.first);
  const int64_t width = args_.value_heads * dim;
  float* out = args_.out + row.first * width + head * dim;
  const DeltaArgs delta = {.state = state,
                           .key_dim = args_.key_dim,
                           .value_dim = dim,
                           .q = mixed + key_head * args_.key_dim,
                           .k = mixed + keys_ + key_head * args_.key_dim,
                           .v = mixed + 2 * keys_ + head * dim,
                           .stride = channels_,
                           .decay = decay_ + head * args_.tokens + row.first,
                           .beta = beta_ + head * args_.tokens + row.first,
                           .tokens = row.tokens,
                           .out = out,
                           .out_stride = width};
  if (row.tokens <= DeltaChunks::kStepTokens) {
    table_.delta_steps(delta);
  } else {
    chunks_.Run(delta, scratch);
  }
  for (int64_t t = 0; t < row.tokens; ++t, out += width) {
    table_.norm_rotate(out, args_.norm, args_.epsilon, nullptr, nullptr, 0, dim, args_.gated ? scratch : out);
    if (!args_.gated) continue;
    const float* z = args_.z.data + (row.first + t) * args_.z.token_stride + key_head * args_.z.head_stride;
    table_.silu_mul(z + head % group_ * dim, scratch, dim, out);
  }
}

}  // namespace

void GatedDeltaNet(const GatedDeltaNetArgs& args, Workspace& workspace, ThreadPool& pool) {
  DeltaNetPass(args, workspace, pool).Run();
}

}  // namespace switchyard::cpu
