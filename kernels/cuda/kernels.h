// The CUDA kernels' whole interface: plain C++ launchers over device pointers. Nothing here includes ONNX
// Runtime or Node.
//
// Every launcher only enqueues work on `stream` (LaunchMoeEager alone waits for it) and returns the first
// error it meets: cudaErrorInvalidValue for sizes, types or workspaces that do not fit, otherwise what the
// CUDA call reported. All but LaunchMoeEager may be captured in a graph; what a replay reads anew is device
// memory alone. Activations and weights share one dtype (bfloat16, float16, or float32 for checks);
// products are accumulated in fp32 in a fixed order, so equal inputs give equal bits. Row-major throughout.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "../common/key_head_values.h"
#include "../common/types.h"

namespace switchyard::cuda {

// One matrix per expert. `device` is a device array of num_experts device pointers and `host` the same
// pointers on the host. A single matrix (num_experts == 1) may leave `device` null.
struct ExpertPointers {
  const void* const* device = nullptr;
  const void* const* host = nullptr;
};

// The experts of one layer, read in place. Element (n, k) of expert e is at pointer[e][n * stride + k], or at
// pointer[e][k * stride + n] when transposed; strides are in elements. FillExpertTable builds it from weight
// matrices.
struct ExpertTable {
  DType dtype = DType::kBFloat16;
  int num_experts = 0;
  int hidden = 0;
  int intermediate = 0;
  bool transposed = false;
  // Whether every matrix is a CodedMatrix (coded_matrix.h); hidden and intermediate are multiples of
  // kCodeChunk then, and strides say nothing.
  bool coded = false;
  int64_t gate_stride = 0;  // of gate and up
  int64_t down_stride = 0;
  ExpertPointers gate, up;  // [intermediate, hidden]
  ExpertPointers down;      // [hidden, intermediate]
};

// Fills the pointers and strides for the three layouts on disk from device addresses:
//   separate         gate[e], up[e] [I, H] and down[e] [H, I], one matrix an expert
//   fused            gate_up [E, 2I, H] and down [E, H, I]: gate first, then up
//   fused transposed gate_up [E, H, 2I] and down [E, I, H]
// `host` receives 3 * E pointers (gate, up, down); the caller copies them to `device` (3 * E pointers on the
// device).
void FillSeparateExperts(const void* const* gate, const void* const* up, const void* const* down,
                         const void** host, const void* const* device, ExpertTable* table);
void FillFusedExperts(const void* gate_up, const void* down, const void** host, const void* const* device,
                      ExpertTable* table);

// y[t] = sum over j of weights[t, j] * expert[indices[t, j]](x[t]), plus y[t] when accumulate is set.
struct MoeExpertsArgs {
  const void* x = nullptr;      // [tokens, hidden] in the experts' dtype
  bool float32_inputs = false;  // x is fp32 and yet to be rounded: where BatchedMmRounds
  int64_t tokens = 0;
  ExpertTable experts;
  const int32_t* indices = nullptr;  // [tokens, top_k] on the device, each in [0, num_experts)
  const float* weights = nullptr;    // [tokens, top_k]
  int top_k = 0;
  void* y = nullptr;                 // [tokens, hidden]
  DType y_dtype = DType::kBFloat16;  // the experts' dtype or float32
  bool accumulate = false;
  // grouped_mm on compute capability 9: the warpgroup instructions of sm_90a instead of sm_80's, for plain
  // weights that are not transposed.
  bool use_wgmma = true;
  void* workspace = nullptr;  // MoeWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
};

// Device bytes the implementation needs for at most `tokens` tokens.
size_t MoeWorkspaceBytes(ExpertsImplementation implementation, const ExpertTable& experts, int64_t tokens,
                         int top_k);

class GemmContext;

// Loop over the active experts in ascending order, cuBLASLt GEMMs for each. Copies the counts to the host and
// waits for them, so it cannot be captured in a graph.
cudaError_t LaunchMoeEager(GemmContext& gemm, const MoeExpertsArgs& args, cudaStream_t stream);
// Matrix-vector products for every (token, expert) pair on its own: two launches.
cudaError_t LaunchMoeBatchedMm(const MoeExpertsArgs& args, cudaStream_t stream);
// Whether LaunchMoeBatchedMm also takes fp32 inputs, beginning on 16 bytes, and rounds them itself.
bool BatchedMmRounds(const ExpertTable& experts, int top_k);
// Pairs sorted by expert on the device, then grouped tensor-core products: four launches of fixed shape,
// legal in a graph capture.
cudaError_t LaunchMoeGroupedMm(const MoeExpertsArgs& args, cudaStream_t stream);

// y = down(silu(gate x) * up x), times sigmoid(output_gate . x) when output_gate is set; added to y when
// accumulate is set.
struct GatedMlpArgs {
  const void* x = nullptr;      // [tokens, hidden] in the weights' dtype
  bool float32_inputs = false;  // x is fp32 and yet to be rounded: where GatedMlpRounds
  int64_t tokens = 0;
  ExpertTable mlp;                    // num_experts == 1
  const void* output_gate = nullptr;  // [hidden], or null
  void* y = nullptr;                  // [tokens, hidden]
  DType y_dtype = DType::kBFloat16;
  bool accumulate = false;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};
size_t GatedMlpWorkspaceBytes(const ExpertTable& mlp, int64_t tokens);
// Whether LaunchGatedMlp also takes fp32 inputs, beginning on 16 bytes, for so many tokens.
bool GatedMlpRounds(const ExpertTable& mlp, int64_t tokens);
cudaError_t LaunchGatedMlp(const GatedMlpArgs& args, cudaStream_t stream);

// cuBLASLt's handle, work area and chosen algorithms; or, in a build without it, the plain kernel. One per
// device and stream.
cudaError_t CreateGemmContext(GemmContext** context);
void DestroyGemmContext(GemmContext* context);
// True when GEMMs go through cuBLASLt.
bool GemmUsesCublasLt();

// out[m, n] = a[m, k] . w[n, k]^T (+ bias[n]). Strides in elements; w is [k, n] when transposed. Where it is
// coded, it is a CodedMatrix (coded_matrix.h), k is a multiple of kCodeChunk, and a is 16-byte aligned with a
// stride of k.
struct LinearArgs {
  DType dtype = DType::kBFloat16;
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t a_stride = 0;
  const void* w = nullptr;
  int64_t w_stride = 0;
  bool transposed = false;
  bool coded = false;
  const void* bias = nullptr;  // [n] in dtype, or null
  void* out = nullptr;
  DType out_dtype = DType::kBFloat16;  // dtype or float32
  int64_t out_stride = 0;
};
cudaError_t LaunchLinear(GemmContext& gemm, const LinearArgs& args, cudaStream_t stream);

// Products of the same few rows with several weights: out[m, n] = x[m, k] . w[n, k]^T (+ bias[n]) of each, x
// being rounded to dtype first. One launch, bound by reading the weights.
constexpr int kMostRowsOfGemv = 4;
constexpr int kMostGemvWeights = 8;
struct GemvWeight {
  const void* w = nullptr;  // [n, k]
  int64_t w_stride = 0;     // in elements
  int64_t n = 0;
  const void* bias = nullptr;  // [n] in dtype, or null
  float* out = nullptr;        // [m, n]
};
struct GemvArgs {
  DType dtype = DType::kBFloat16;
  int64_t m = 0, k = 0;
  const float* x = nullptr;  // [m, k]
  int count = 0;             // of weights
  GemvWeight weights[kMostGemvWeights];
};
// Whether LaunchGemv takes these: at most kMostRowsOfGemv rows, which fit into shared memory, and weights
// whose rows begin on 16 bytes. It does not say whether LaunchLinear is slower.
bool GemvTakes(const GemvArgs& args);
cudaError_t LaunchGemv(const GemvArgs& args, cudaStream_t stream);

// Softmax in fp32 over the experts, the top_k largest probabilities best first (equal ones: lower index
// first), divided by their sum when normalize is set. logits in logits_dtype; num_experts <= 512, top_k
// <= 32.
struct RouterTopKArgs {
  const void* logits = nullptr;  // [tokens, num_experts]
  DType logits_dtype = DType::kFloat32;
  int64_t tokens = 0;
  int num_experts = 0;
  int top_k = 0;
  bool normalize = false;
  int32_t* indices = nullptr;  // [tokens, top_k]
  float* weights = nullptr;    // [tokens, top_k]
};
cudaError_t LaunchRouterTopK(const RouterTopKArgs& args, cudaStream_t stream);

// The whole router: logits = x . weight^T in fp32, then as LaunchRouterTopK. One launch for few tokens, in
// which blocks count in memory of the context, so that its stream is the only one; two for more.
struct RouterArgs {
  DType dtype = DType::kBFloat16;
  const void* x = nullptr;  // [tokens, hidden]
  int64_t tokens = 0;
  const void* weight = nullptr;  // [num_experts, hidden]
  int num_experts = 0;
  int hidden = 0;
  int top_k = 0;
  bool normalize = false;
  float* logits = nullptr;      // [tokens, num_experts]
  int32_t* indices = nullptr;   // [tokens, top_k]
  float* weights = nullptr;     // [tokens, top_k]
  bool float32_inputs = false;  // x is fp32 and yet to be rounded: for up to kMostTokensRouterRounds tokens
};
constexpr int64_t kMostTokensRouterRounds = 32;
cudaError_t LaunchRouter(GemmContext& gemm, const RouterArgs& args, cudaStream_t stream);

// out[i] = table[ids[i]]; table [rows, hidden] in dtype, out in dtype or float32; the caller has checked the
// ids. LaunchCodedEmbeddingRows reads a CodedMatrix (coded_matrix.h) whose hidden is a multiple of
// kCodeChunk.
cudaError_t LaunchEmbeddingRows(const void* table, DType dtype, int hidden, const int64_t* ids, int64_t count,
                                void* out, DType out_dtype, cudaStream_t stream);

cudaError_t LaunchCodedEmbeddingRows(const void* table, int hidden, const int64_t* ids, int64_t count,
                                     float* out, cudaStream_t stream);

// out[i] = in[i], rounded or widened.
cudaError_t LaunchConvert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
                          cudaStream_t stream);

// Attention of the new tokens of several rows over their cached keys and values, which are extended in place
// first. The tokens lie one row after the other; keys and values lie in a pool of blocks, of which each row
// has a table. Each head of q and k is normalised (RMS in fp32, where weights are given), then the halves of
// its first 2 * pairs values are rotated against each other: with x1 and x2 these halves, x1 * cos - x2 * sin
// and x2 * cos + x1 * sin. Rounded to dtype, keys and values go to the row's positions from past_lengths[row]
// on, of which p lies in block block_tables[row, p / block_size] at p % block_size. A query at position p
// sees the keys j <= p with, if there is a window, p - j < window. Products are of dtype, the softmax is in
// fp32.
//
// Where blocks of positions are selected, a query sees of the complete blocks up to its position those that
// are listed for it, and what is behind the last complete one; if its list begins with -1, all.
//
// Where rows lie (row_starts, past_lengths, block_tables) and the keys they have already must be older than
// the kernel just before on the stream, which may still be running while they are read.
//
// Launches follow from the sizes alone, so a captured graph replays with other rows, lengths and tables in
// the same memory. Nothing outside the pool is touched, whatever the memory holds: a row whose tokens do not
// fit its table writes nothing but zeros to its output; where a table names no block of the pool, nothing is
// written, and keys and values count as zeros.
struct CachedAttentionArgs {
  DType dtype = DType::kBFloat16;  // of the norms' weights, the cache and the products
  int64_t tokens = 0;              // of all rows
  int64_t rows = 0;
  int heads = 0;  // a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;                       // at most 256; quickest where a multiple of 8 up to 128
  int pairs = 0;                          // at most head_dim / 2
  int64_t blocks = 0;                     // in the pool
  int64_t block_size = 0;                 // positions; a power of two from 16 on
  int64_t max_blocks = 0;                 // of a row
  const float* q = nullptr;               // [tokens, heads * head_dim], as projected
  const float* k = nullptr;               // [tokens, kv_heads * head_dim]
  const float* v = nullptr;               // like k
  const float* cos = nullptr;             // [tokens, pairs]
  const float* sin = nullptr;             // like cos
  const void* q_norm = nullptr;           // [head_dim], or null for none
  const void* k_norm = nullptr;           // like q_norm
  float epsilon = 0.0f;                   // added to the mean square
  float norm_offset = 0.0f;               // added to the norms' weights
  void* keys = nullptr;                   // [blocks, kv_heads, block_size, head_dim]
  void* values = nullptr;                 // like keys
  const int32_t* row_starts = nullptr;    // [rows + 1] on the device, as the next two: each row's first token
  const int32_t* past_lengths = nullptr;  // [rows]
  const int32_t* block_tables = nullptr;  // [rows, max_blocks]
  int64_t window = 0;                     // 0: none
  const int32_t* selected = nullptr;      // [tokens, selected_blocks] on the device; null: queries see all
  int64_t selected_blocks = 0;            // listed for a query
  int64_t selected_block = 0;             // positions of each
  float scale = 0.0f;                     // of the products of q and k
  float* out = nullptr;                   // [tokens, heads * head_dim]
  void* workspace = nullptr;              // CachedAttentionWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
  uint32_t* counters = nullptr;  // kAttentionCounters on the device: zeros before the first call that uses
                                 // them, and again after each; calls that may overlap need their own
};
constexpr int kAttentionCounters = 128;
// Device bytes needed; of the arguments only dtype, sizes and window matter.
size_t CachedAttentionWorkspaceBytes(const CachedAttentionArgs& args);
cudaError_t LaunchCachedAttention(const CachedAttentionArgs& args, cudaStream_t stream);

// Which blocks of positions tokens attend to, and the keys by which that is decided, as op BlockIndex says.
// Rows' places and what happens to those that do not fit are as of CachedAttentionArgs. Heads of q and the
// keys of complete blocks are rounded to dtype; scores are fp32.
struct BlockIndexArgs {
  DType dtype = DType::kBFloat16;  // of the norms' weights and the keys
  int64_t tokens = 0;              // of all rows
  int64_t rows = 0;
  int heads = 0;
  int dim = 0;                            // at most kMostIndexDim
  int pairs = 0;                          // at most dim / 2
  int64_t block = 0;                      // positions; divides block_size
  int64_t top = 0;                        // blocks that a token lists
  int64_t blocks = 0;                     // in the pool
  int64_t block_size = 0;                 // positions; a power of two from 16 on
  int64_t max_blocks = 0;                 // of a row
  const float* q = nullptr;               // [tokens, heads * dim], as projected
  const float* k = nullptr;               // [tokens, dim]
  const float* cos = nullptr;             // [tokens, pairs], of each token
  const float* sin = nullptr;             // like cos
  const float* block_cos = nullptr;       // [tokens, pairs], of the first position of each token's block
  const float* block_sin = nullptr;       // like block_cos
  const void* q_norm = nullptr;           // [dim]
  const void* k_norm = nullptr;           // [dim]
  float epsilon = 0.0f;                   // added to the mean square
  float norm_offset = 0.0f;               // added to the norms' weights
  void* keys = nullptr;                   // [blocks, 1, block_size, dim]
  const int32_t* row_starts = nullptr;    // [rows + 1] on the device, as the next two
  const int32_t* past_lengths = nullptr;  // [rows]
  const int32_t* block_tables = nullptr;  // [rows, max_blocks]
  int32_t* selected = nullptr;            // [tokens, top]
  void* workspace = nullptr;              // BlockIndexWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
};
constexpr int kMostIndexDim = 256;
// Device bytes needed; of the arguments only dtype and sizes matter.
size_t BlockIndexWorkspaceBytes(const BlockIndexArgs& args);
cudaError_t LaunchBlockIndex(const BlockIndexArgs& args, cudaStream_t stream);

// Attention in which every query sees all keys of its row: softmax(scale * q . k^T) . v, with products of
// dtype and the softmax in fp32.
struct AttentionArgs {
  DType dtype = DType::kBFloat16;
  int64_t batch = 0;
  int64_t queries = 0;  // in each row
  int64_t keys = 0;     // in each row, at least 1
  int heads = 0;        // a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;           // as in CachedAttentionArgs
  const float* q = nullptr;   // [batch, queries, heads * head_dim]
  const float* k = nullptr;   // [batch, keys, kv_heads * head_dim]
  const float* v = nullptr;   // like k
  float scale = 0.0f;         // of the products of q and k
  float* out = nullptr;       // [batch, queries, heads * head_dim]
  void* workspace = nullptr;  // AttentionWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
};
// Device bytes needed; of the arguments only dtype and sizes matter.
size_t AttentionWorkspaceBytes(const AttentionArgs& args);
cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream);

// The k largest logits of every row, in descending order; of equal ones the lower id comes first. NaN counts
// as minus infinity. Legal in a graph capture.
struct TopCandidatesArgs {
  const float* logits = nullptr;  // [rows, vocab]
  int64_t rows = 0;
  int64_t vocab = 0;
  int k = 0;                  // 1 to 1024, at most vocab
  float* values = nullptr;    // [rows, k]
  int32_t* ids = nullptr;     // [rows, k]
  void* workspace = nullptr;  // TopCandidatesWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
};
size_t TopCandidatesWorkspaceBytes(int64_t rows, int64_t vocab, int k);
cudaError_t LaunchTopCandidates(const TopCandidatesArgs& args, cudaStream_t stream);

// The mixer of a linear attention layer between its projections, for the tokens of several rows, which lie
// one row after the other: see cpu::GatedDeltaNetArgs. All of it is fp32. Each row's states lie in its slot
// of two pools, and are updated in place; a row without a past begins with zeros, whatever its slot holds.
//
// Launches follow from the sizes alone, so a captured graph replays with other rows, lengths and slots in the
// same memory. A row whose slot is none of the pool's, or whose tokens do not lie in the pass, writes nothing
// but zeros to its output.
struct GatedDeltaNetArgs {
  KeyHeadValues q = {}, k = {};  // [key_dim]
  KeyHeadValues v = {}, z = {};  // [value_heads / key_heads, value_dim]
  KeyHeadValues b = {}, a = {};  // [value_heads / key_heads]
  int64_t tokens = 0;            // of all rows
  int64_t rows = 0;
  int64_t slots = 0;
  int key_heads = 0;
  int value_heads = 0;  // a multiple of key_heads
  int key_dim = 0;      // at most kMostDeltaKeys
  int value_dim = 0;
  int kernel = 0;                  // taps of the convolution
  const float* conv = nullptr;     // [kernel, channels]
  const float* a_log = nullptr;    // [value_heads]
  const float* dt_bias = nullptr;  // [value_heads]
  const float* norm = nullptr;     // [value_dim]
  float epsilon = 0.0f;            // of the norm
  bool gated = true;
  float* conv_states = nullptr;           // [slots, kernel - 1, channels]
  float* states = nullptr;                // [slots, value_heads, key_dim, value_dim]
  const int32_t* row_starts = nullptr;    // [rows + 1] on the device, as the next two: each row's first token
  const int32_t* past_lengths = nullptr;  // [rows]
  const int32_t* state_slots = nullptr;   // [rows]
  float* out = nullptr;                   // [tokens, value_heads, value_dim]
  void* workspace = nullptr;              // GatedDeltaNetWorkspaceBytes(...), 256-byte aligned
  size_t workspace_bytes = 0;
};
constexpr int kMostDeltaKeys = 256;
// Device bytes needed; of the arguments only sizes matter.
size_t GatedDeltaNetWorkspaceBytes(const GatedDeltaNetArgs& args);
cudaError_t LaunchGatedDeltaNet(const GatedDeltaNetArgs& args, cudaStream_t stream);

// silu of a depthwise convolution over the tokens of several rows, which lie one row after the other, and the
// ones before them. A row's last inputs, oldest first, lie in its slot of a pool and are updated in place; a
// row without a past begins with zeros, whatever its slot holds. Launches and rows that do not fit as in
// GatedDeltaNetArgs.
struct CausalConvArgs {
  int64_t tokens = 0;  // of all rows
  int64_t rows = 0;
  int64_t slots = 0;
  int64_t channels = 0;
  int64_t kernel = 0;                     // taps
  int64_t dilation = 1;                   // tokens from tap to tap
  const float* x = nullptr;               // [tokens, channels]
  const float* weight = nullptr;          // [kernel, channels]
  float* states = nullptr;                // [slots, (kernel - 1) * dilation, channels]
  const int32_t* row_starts = nullptr;    // [rows + 1] on the device, as the next two: each row's first token
  const int32_t* past_lengths = nullptr;  // [rows]
  const int32_t* state_slots = nullptr;   // [rows]
  float* out = nullptr;                   // [tokens, channels]
};
cudaError_t LaunchCausalConv(const CausalConvArgs& args, cudaStream_t stream);

// Rows of a table of hashed n-grams, as op NgramRows says; -1 for a head without a size.
struct NgramRowsArgs {
  int64_t tokens = 0;
  int order = 0;                         // of the longest n-grams
  int heads = 0;                         // of all orders from 2 on, as many of each
  int64_t end_id = 0;                    // what ends a text
  const int64_t* ids = nullptr;          // [tokens]
  const int64_t* preceding = nullptr;    // [order - 1, tokens]
  const int64_t* multipliers = nullptr;  // [order]
  const int64_t* sizes = nullptr;        // [heads]
  const int64_t* offsets = nullptr;      // [heads]
  int64_t* out = nullptr;                // [tokens, heads]
};
cudaError_t LaunchNgramRows(const NgramRowsArgs& args, cudaStream_t stream);

}  // namespace switchyard::cuda
