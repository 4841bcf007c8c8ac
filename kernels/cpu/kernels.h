// The CPU kernels' whole interface: plain pointers and sizes, row-major fp32 activations.
// Every function picks its instruction set at run time (see isa.h) and writes all of its outputs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../common/key_head_values.h"
#include "../common/thread_pool.h"
#include "../common/types.h"

namespace switchyard::cpu {

// Grow-only scratch memory, reused across calls; one call at a time may use it.
class Workspace;

// y_i[tokens, weights[i].rows] = x[tokens, cols] . weights[i]^T (+ bias_i), for `count` matrices that share
// the input (q, k, v).
struct LinearArgs {
  const float* x;
  int64_t tokens;
  const WeightMatrix* weights;
  const WeightMatrix* biases;  // [1, rows] each, not quantized; data == nullptr: none
  float* const* outputs;
  int count;
  Precision precision;
};
void Linear(const LinearArgs& args, Workspace& workspace, ThreadPool& pool);

// Whether such products read bf16 weights from row panels, where these are complete, on this machine.
bool ReadsRowPanels(Precision precision);

// y = down(silu(gate x) * up x), times sigmoid(output_gate . x) unless output_gate is empty.
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

// Experts that are on their way to memory, in groups. The weights of a group may be looked at once `arrive`,
// which is called for one group after the other, has returned from its call; it may throw.
struct LateExperts {
  const int32_t* group;  // [num_experts]: 1 to `groups`; 0 for those that are there
  int32_t groups;
  void (*arrive)(void* state);
  void* state;
};

// What all tokens go to besides: expert(x), times sigmoid(output_gate . x) unless output_gate is empty.
struct SharedExpert {
  ExpertWeights weights;     // [its intermediate, hidden] and back
  WeightMatrix output_gate;  // [1, hidden]
};

// y[t] = sum over j of weights[t, j] * expert[indices[t, j]](x[t]), to which that of a shared expert is
// added; three executions of the same mathematics:
//   eager       loop over the active experts in ascending order, one GEMM each, accumulate into y
//   batched_mm  every (token, expert) pair on its own, then one sum over k
//   grouped_mm  pairs sorted by expert, one grouped GEMM over all of them, then one sum over k
// The last two run a shared expert beside the others: it meets all tokens and keeps the multipliers busy,
// while they, with few tokens each, wait for memory.
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
  const LateExperts* late = nullptr;     // null: all are there
  const SharedExpert* shared = nullptr;  // null: none
};
void MoeExperts(const MoeExpertsArgs& args, Workspace& workspace, ThreadPool& pool);

// Where the keys and values of rows lie in a pool of blocks: position p of row r in block tables[r, p /
// block_size], at p % block_size. Strides count elements; the values of a head lie side by side.
struct BlockLayout {
  int64_t block_size;  // positions
  int64_t block_stride, head_stride, token_stride;
  const int32_t*
      tables;  // [rows, table_size], each in the pool as far as needed; null: row r has block r alone
  int64_t table_size;
};

// One row: its tokens, which lie side by side among those of all rows, and how many keys it has.
struct AttentionRow {
  int64_t first, tokens;
  int64_t past;  // position of the first token's key; matters when causal
  int64_t keys;
};

// out[i, h] = sum over the keys j of token i's row that it sees of softmax_j(scale * q[i, h] . k[j, g]) *
// v[j, g], where g = h / (heads / kv_heads). A token that sees no key gets zeros. A row's bits do not depend
// on the other rows, on the number of threads or on how its keys lie in blocks; they do on which of its
// tokens come in one call, as these share sums' order: few (see kStreamedQueries) are added in chunks of keys
// from the first one that any of them sees, many in blocks of keys from position 0.
struct AttentionArgs {
  const float* q;  // [tokens, heads, head_dim]
  const void* k;   // in blocks
  const void* v;   // as k
  DType dtype;     // of k and v
  BlockLayout layout;
  float* out;  // as q
  const AttentionRow* rows;
  int64_t row_count;
  int64_t heads, kv_heads;  // heads is a multiple of kv_heads
  int64_t head_dim;
  bool causal;          // a token sees the keys up to its own position
  int64_t window;       // when causal, only the last so many of these; 0: all
  float scale;          // not negative
  Precision precision;  // kBFloat16 may round q, k, v and the softmax's exponentials; sums are fp32
  int64_t prepared_bytes = 16 << 20;  // most room for keys and values made ready at a time
};
void Attention(const AttentionArgs& args, Workspace& workspace, ThreadPool& pool);

// What happens to a head before it attends or is attended to: RMS norm over the head, times norm (none where
// it is null), then the rotation of its first 2 * pairs values (see KernelTable::norm_rotate).
struct HeadRotation {
  const float* norm;  // [head_dim]
  float epsilon;
  const float* cos;  // [tokens, pairs], the angles of each token
  const float* sin;
  int64_t pairs;
};

// out[i, h] = x[i, h] normed and rotated.
struct RotaryArgs {
  const float* x;  // [tokens, heads, head_dim]
  float* out;      // as x, other memory
  int64_t tokens, heads, head_dim;
  HeadRotation rotation;
};
void Rotary(const RotaryArgs& args, ThreadPool& pool);

// Writes keys or values x of new tokens to their places, rounded to the cache's type.
struct CacheAppendArgs {
  const float* x;  // [tokens, heads, head_dim]
  void* cache;
  DType dtype;
  const int64_t* places;  // [tokens]: elements from the cache's beginning to head 0 of each token's position
  int64_t head_stride;    // elements from head to head there
  int64_t tokens, heads, head_dim;
  const HeadRotation* rotation;  // null: x as it is
};
void CacheAppend(const CacheAppendArgs& args, Workspace& workspace, ThreadPool& pool);

// One row of a pass through a recurrent layer, and its states, which are updated in place.
struct RecurrentRow {
  int64_t first, tokens;
  bool fresh;    // nothing came before: the states count as zeros, whatever they hold
  float* conv;   // [kernel - 1, channels]: the convolution's last inputs, oldest first
  float* state;  // [value_heads, key_dim, value_dim]
};

// The mixer of a linear attention layer between its projections (Yang et al. 2024, Gated Delta Networks,
// arXiv:2412.06464; HF Qwen3NextGatedDeltaNet): a causal depthwise convolution and SiLU over q, k and v; the
// gated delta rule with q and k normed to length 1, decay exp(-exp(a_log) softplus(a + dt_bias)) and step
// sigmoid(b); an RMS norm of every head, times norm, times silu(z) where `gated` is set. Channels are all of
// q, then k, then v; a key head has value_heads / key_heads value heads side by side. A row's bits do not
// depend on the other rows or the number of threads; they do on how many of its tokens come in one call.
struct GatedDeltaNetArgs {
  KeyHeadValues q, k;  // [key_dim]
  KeyHeadValues v, z;  // [value_heads / key_heads, value_dim]
  KeyHeadValues b, a;  // [value_heads / key_heads]
  const RecurrentRow* rows;
  int64_t row_count;
  int64_t tokens;  // of all rows
  int64_t key_heads, value_heads, key_dim, value_dim;
  int64_t kernel;        // taps, 1 to kMaxConvTaps
  const float* conv;     // [kernel, channels]
  const float* a_log;    // [value_heads]
  const float* dt_bias;  // [value_heads]
  const float* norm;     // [value_dim]
  float epsilon;         // of that norm
  bool gated = true;
  float* out;  // [tokens, value_heads, value_dim]
};
inline constexpr int64_t kMaxConvTaps = 64;
void GatedDeltaNet(const GatedDeltaNetArgs& args, Workspace& workspace, ThreadPool& pool);

// One row of a pass through a causal convolution, and what it keeps, which is updated in place.
struct ConvRow {
  int64_t first, tokens;
  bool fresh;      // nothing came before: what is kept counts as zeros, whatever it holds
  float* context;  // [(kernel - 1) * dilation, channels]: the last inputs, oldest first
};

// y[i] = silu(sum over the taps j of weight[j] * the input (kernel - 1 - j) * dilation tokens before token i
// of its row), channel by channel.
struct CausalConvArgs {
  const float* x;       // [tokens, channels]
  const float* weight;  // [kernel, channels]
  const ConvRow* rows;
  int64_t row_count;
  int64_t tokens;  // of all rows
  int64_t channels;
  int64_t kernel;  // taps, 1 to kMaxConvTaps
  int64_t dilation;
  float* y;  // [tokens, channels]
};
void CausalConv(const CausalConvArgs& args, Workspace& workspace, ThreadPool& pool);

// Which blocks of positions tokens look back on: a sparse index of attention.
struct BlockIndexArgs {
  const float* q;      // [tokens, heads, dim], normed and rotated
  void* keys;          // of positions as projected, but for the last one of a block that was complete before
  DType dtype;         // of the keys
  BlockLayout layout;  // of the keys; `block` divides its blocks
  const AttentionRow* rows;
  int64_t row_count;
  int64_t tokens;  // of all rows
  int64_t heads, dim;
  int64_t block;          // positions
  int64_t top;            // blocks a token keeps at most
  HeadRotation rotation;  // of a block's mean key; angles of the first position of each token's block
  int32_t* selected;      // [tokens, top]
};
// Where a token is the last of a block, its key becomes the block's: the mean of the block's keys, normed and
// rotated. A token with more than `top` complete blocks up to its own position keeps those with the highest
// sum over the heads of relu(q . key), equal ones by ascending place, and lists them by ascending place; any
// other sees all of them, and its list is -1.
void BlockIndex(const BlockIndexArgs& args, Workspace& workspace, ThreadPool& pool);

// out[i] = row ids[i] of a table, widened to fp32; the caller has checked the ids. The table's rows lie in
// `parts`, one after the other, as many in each as in the first.
void EmbeddingRows(const WeightMatrix* parts, const int64_t* ids, int64_t count, float* out,
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
