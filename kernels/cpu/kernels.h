// The CPU kernels' whole interface: plain pointers and sizes, row-major fp32 activations.
// Every function picks its instruction set at run time (see isa.h) and writes all of its outputs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../common/types.h"

namespace switchyard::cpu {

// The thread pool a kernel runs on. For() calls body(state, i) once for each i in [0, count), possibly in
// parallel, and returns when all are done. Kernels must not nest calls.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;
  virtual int NumThreads() const = 0;
  virtual void For(int64_t count, void (*body)(void* state, int64_t i), void* state) = 0;
};

// Grow-only scratch memory, reused across calls; one call at a time may use it.
class Workspace;

// y_i[tokens, weights[i].rows] = x[tokens, cols] . weights[i]^T (+ bias_i), for `count` matrices that share
// the input (q, k, v).
struct LinearArgs {
  const float* x;
  int64_t tokens;
  const WeightMatrix* weights;
  const WeightMatrix* biases;  // [1, rows] each; data == nullptr: none
  float* const* outputs;
  int count;
  Precision precision;
};
void Linear(const LinearArgs& args, Workspace& workspace, ThreadPool& pool);

// y = down(silu(gate x) * up x), times sigmoid(output_gate . x) when output_gate.data is set.
struct GatedMlpArgs {
  const float* x;  // [tokens, hidden]
  int64_t tokens;
  WeightMatrix gate, up;     // [intermediate, hidden]
  WeightMatrix down;         // [hidden, intermediate]
  WeightMatrix output_gate;  // [1, hidden]
  float* y;                  // [tokens, hidden]
  Precision precision;
};
void GatedMlp(const GatedMlpArgs& args, Workspace& workspace, ThreadPool& pool);

// logits = x . weight^T; softmax over experts in fp32; the top_k largest, best first, ties to the lower
// index; weights divided by their sum when normalize is set.
struct RouterArgs {
  const float* x;  // [tokens, hidden]
  int64_t tokens;
  WeightMatrix weight;  // [experts, hidden]
  int top_k;
  bool normalize;
  float* logits;     // [tokens, experts]
  int32_t* indices;  // [tokens, top_k]
  float* weights;    // [tokens, top_k]
  Precision precision;
};
void Router(const RouterArgs& args, Workspace& workspace, ThreadPool& pool);

struct ExpertWeights {
  WeightMatrix gate, up;  // [intermediate, hidden]
  WeightMatrix down;      // [hidden, intermediate]
};

// y[t] = sum over j of weights[t, j] * expert[indices[t, j]](x[t]); three executions of the same mathematics:
//   eager       loop over the active experts in ascending order, one GEMM each, accumulate into y
//   batched_mm  every (token, expert) pair on its own, then one sum over k
//   grouped_mm  pairs sorted by expert, one grouped GEMM over all of them, then one sum over k
struct MoeExpertsArgs {
  const float* x;  // [tokens, hidden]
  int64_t tokens;
  const ExpertWeights* experts;  // [num_experts]
  int64_t num_experts;
  int64_t hidden;
  int64_t intermediate;
  const int32_t* indices;  // [tokens, top_k], each in [0, num_experts): the caller checks
  const float* weights;    // [tokens, top_k]
  int top_k;
  ExpertsImplementation implementation;
  float* y;  // [tokens, hidden]
  Precision precision;
};
void MoeExperts(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool);

// Elements from one index to the next; values of a head lie side by side.
struct HeadStrides {
  int64_t row, token, head;
};

// One row of the batch.
struct AttentionRow {
  int64_t keys;  // how many there are
  int64_t past;  // position among the keys of the row's first query; matters when causal
};

// out[b, i, h] = sum over the keys j that query i sees of softmax_j(scale * q[b, i, h] . k[b, j, g]) * v[b,
// j, g], where g = h / (heads / kv_heads). A query that sees no key gets zeros.
struct AttentionArgs {
  const float* q;  // [batch, tokens, heads, head_dim]
  HeadStrides q_strides;
  const float* k;  // [batch, keys, kv_heads, head_dim]
  HeadStrides k_strides;
  const float* v;  // as k
  HeadStrides v_strides;
  float* out;  // as q
  HeadStrides out_strides;
  int64_t batch, tokens;
  int64_t heads, kv_heads;  // heads is a multiple of kv_heads
  int64_t head_dim;
  const AttentionRow* rows;  // [batch]
  bool causal;               // query i sees keys up to past + i
  int64_t window;            // when causal, only the last so many of these; 0: all
  float scale;               // not negative
  Precision precision;       // kBFloat16 may round q, k, v and the softmax's exponentials; sums are fp32
  int64_t prepared_bytes = 16 << 20;  // most room for keys and values made ready at a time
};
void Attention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool);

// cache[b, h, rows[b].past + i] = x[b, i, h] for keys or values x of new tokens.
struct CacheAppendArgs {
  const float* x;  // [batch, tokens, heads, head_dim]
  HeadStrides x_strides;
  float* cache;  // [batch, heads, capacity, head_dim]
  HeadStrides cache_strides;
  int64_t batch, tokens, heads, head_dim;
  const AttentionRow* rows;  // [batch]; the caller has checked that the tokens fit
};
void CacheAppend(const CacheAppendArgs& args, ThreadPool& pool);

// out[b, i, h] = x[b, i, h] normed (RMS over the head, times norm; none where norm is null) and rotated by
// the angles of its token (see KernelTable::norm_rotate). With `rows`, token i goes to place rows[b].past + i
// of a cache.
struct RotaryArgs {
  const float* x;  // [batch, tokens, heads, head_dim]
  HeadStrides x_strides;
  float* out;  // not x
  HeadStrides out_strides;
  int64_t batch, tokens, heads, head_dim;  // head_dim is even
  const float* cos;                        // [batch, tokens, head_dim / 2]
  const float* sin;
  const float* norm;  // [head_dim]
  float epsilon;
  const AttentionRow* rows;  // [batch], or null; the caller has checked that the tokens fit
};
void Rotary(const RotaryArgs& args, ThreadPool& pool);

// out[i] = table[ids[i]] widened to fp32; the caller has checked the ids.
void EmbeddingRows(const WeightMatrix& table, const int64_t* ids, int64_t count, float* out,
                   ThreadPool& pool);

// The highest logits of each row, best first, equal ones by ascending id. What is NaN counts as -inf, and
// comes out as it.
struct TopCandidatesArgs {
  const float* logits;  // [rows, vocab]
  int64_t rows, vocab;
  int64_t count;  // of candidates a row, 0 to vocab
  float* values;  // [rows, count]
  int32_t* ids;   // [rows, count]
};
void TopCandidates(const TopCandidatesArgs& args, Workspace& workspace, ThreadPool& pool);

}  // namespace switchyard::cpu
