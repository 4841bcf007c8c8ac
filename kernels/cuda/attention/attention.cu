// Attention's launchers: which kernels a call needs, and how its workspace is shared out.
#include <algorithm>
#include <bit>
#include <climits>

#include "attention_internal.h"

namespace switchyard::cuda {
namespace {

// Blocks that share keys, at most, about: one or two for every multiprocessor of a large card.
constexpr int kDecodeBlocks = 256;
constexpr int kFewDecodeBlocks = 128;  // where tiles are few, and their splits many to join
constexpr int kFewTiles = 16;
constexpr int kPlainBlocks = 384;
constexpr int kPrefillBlocks = 384;
constexpr int kMostPackedSplits = 32;  // of keys that a tile's heads share: beyond, joining takes longer
constexpr int kWideBlocks = 256;       // wide tiles are used when there are at least so many
constexpr float kLog2OfE = 1.44269504088896341f;
constexpr size_t kAlignment = 256;

// Carves a workspace; with a null base, only adds up.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<unsigned char*>(base)) {}
  template <typename T = void>
  T* Take(int64_t bytes) {
    const size_t at = used_;
    used_ += (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  size_t used() const { return used_; }

 private:
  unsigned char* base_;
  size_t used_ = 0;
};

int PitchOf(int head_dim) { return static_cast<int>(CeilDiv(head_dim, kHeadChunk)) * kHeadChunk; }

bool AreHeads(DType dtype, int heads, int kv_heads, int head_dim) {
  return IsSupported(dtype) && kv_heads > 0 && heads > 0 && heads % kv_heads == 0 && head_dim > 0 &&
         head_dim <= kMaxHeadDim;
}

using Launcher = cudaError_t (*)(const AttentionParams&, DType, cudaStream_t);

// The launches of one call, at most one for rows of one token and one for the others.
struct Plan {
  struct Step {
    Launcher launch;
    AttentionParams params;
  };
  Step steps[2];
  int count = 0;
  bool prepared = true;  // queries, keys and values, by a launch of its own
  size_t bytes = 0;      // of the workspace

  void Add(Launcher launch, const AttentionParams& params) { steps[count++] = {launch, params}; }
};

// How many blocks share the keys of a tile: more than one where there are few tiles. Follows from sizes and
// the room in the tables alone, so that a launch can be replayed.
void ChooseSplits(int64_t tiles, int blocks, int most_splits, AttentionParams* p, Carver* carver) {
  const int64_t capacity = int64_t{p->table_size} * p->block_size;
  int64_t seen = capacity;  // by a tile, whose first key is a multiple of kKeyAlignment
  if (p->window > 0) seen = std::min(seen, int64_t{p->window} + p->tokens + kKeyAlignment - 1);
  if (p->selected != nullptr) seen += p->selected_block;  // what lists may say at most
  p->most_splits =
      static_cast<int>(std::clamp<int64_t>(blocks / std::max<int64_t>(1, tiles), 1, most_splits));
  p->splits = static_cast<int>(std::clamp<int64_t>(CeilDiv(seen, kSplitKeys), 1, p->most_splits));
  if (p->splits == 1) return;
  const int64_t parts = int64_t{p->slots} * p->heads * p->splits;
  p->split_sums = carver->Take<float>(parts * p->head_dim * static_cast<int64_t>(sizeof(float)));
  p->split_stats = carver->Take<SplitStats>(parts * static_cast<int64_t>(sizeof(SplitStats)));
}

// Wide tiles pay where there are many, and rows that fill them.
int TileQueries(const AttentionParams& p) {
  const bool many = p.heads * CeilDiv(p.tokens, kWideTile) >= kWideBlocks;
  return many && p.tokens >= int64_t{p.rows} * kNarrowTile ? kWideTile : kNarrowTile;
}

// How many of the heads that share a key head fit a narrow tile beside one another.
int TileHeads(const AttentionParams& p) {
  const int group = p.heads / p.kv_heads;
  int heads = std::min(group, std::max(1, kNarrowTile / p.tokens));
  while (group % heads != 0) --heads;
  return heads;
}

AttentionParams ToParams(const CachedAttentionArgs& args, Carver* carver) {
  AttentionParams p = {};
  p.inputs = {args.q,      args.k,      args.v,       static_cast<int>(args.tokens),
              args.q_norm, args.k_norm, args.epsilon, args.norm_offset,
              args.cos,    args.sin,    args.pairs};
  p.counters = args.counters;
  p.tokens = static_cast<int>(args.tokens);
  p.rows = static_cast<int>(args.rows);
  p.heads = args.heads;
  p.kv_heads = args.kv_heads;
  p.head_dim = args.head_dim;
  p.q_pitch = PitchOf(args.head_dim);
  p.key_pitch = args.head_dim;
  p.keys = args.keys;
  p.values = args.values;
  p.out = args.out;
  p.row_starts = args.row_starts;
  p.past_lengths = args.past_lengths;
  p.tables = args.block_tables;
  p.table_size = static_cast<int>(args.max_blocks);
  p.blocks = static_cast<int>(args.blocks);
  p.block_size = static_cast<int>(args.block_size);
  p.block_shift = std::countr_zero(static_cast<unsigned>(args.block_size));
  p.causal = true;
  p.window = static_cast<int>(std::min<int64_t>(args.window, INT_MAX));
  p.selected = args.selected;
  p.selected_blocks = static_cast<int>(args.selected_blocks);
  p.selected_block = static_cast<int>(args.selected_block);
  p.scale = args.scale * kLog2OfE;
  p.splits = p.most_splits = p.tile_heads = 1;
  p.q = carver->Take(args.tokens * args.heads * p.q_pitch * static_cast<int64_t>(ElementSize(args.dtype)));
  return p;
}

AttentionParams ToParams(const AttentionArgs& args, Carver* carver) {
  AttentionParams p = {};
  p.inputs.q = args.q;
  p.inputs.k = args.k;
  p.inputs.v = args.v;
  p.inputs.key_tokens = static_cast<int>(args.batch * args.keys);
  p.tokens = static_cast<int>(args.batch * args.queries);
  p.rows = static_cast<int>(args.batch);
  p.row_tokens = static_cast<int>(args.queries);
  p.row_keys = p.block_size = static_cast<int>(args.keys);
  p.heads = args.heads;
  p.kv_heads = args.kv_heads;
  p.head_dim = args.head_dim;
  p.q_pitch = p.key_pitch = PitchOf(args.head_dim);
  p.out = args.out;
  p.scale = args.scale * kLog2OfE;
  p.splits = p.most_splits = p.tile_heads = 1;
  const int64_t row_bytes = p.q_pitch * static_cast<int64_t>(ElementSize(args.dtype));
  p.q = carver->Take(args.batch * args.queries * args.heads * row_bytes);
  p.keys = carver->Take(args.batch * args.kv_heads * args.keys * row_bytes);
  p.values = carver->Take(args.batch * args.kv_heads * args.keys * row_bytes);
  return p;
}

// Queries one by one: all of them, or those of rows with one token.
void AddDecoding(AttentionParams p, RowChoice choice, bool tensor_cores, Carver* carver, Plan* plan) {
  p.choice = choice;
  p.slots = choice == RowChoice::kOneToken ? p.rows : p.tokens;
  p.tile_queries = 1;
  int64_t tiles = int64_t{p.slots} * p.kv_heads;
  if (tensor_cores) {
    tiles *= CeilDiv(p.heads / p.kv_heads, kDecodeHeads);
    ChooseSplits(tiles, tiles < kFewTiles ? kFewDecodeBlocks : kDecodeBlocks, kMaxDecodeSplits, &p, carver);
    plan->Add(LaunchDecodeTensorCore, p);
  } else {
    ChooseSplits(tiles, kPlainBlocks, kMaxSplits, &p, carver);
    plan->Add(LaunchAttentionPlain, p);
  }
}

// Whether a row has one token or several is known on the device; which launches there are follows from sizes.
Plan ToPlan(const CachedAttentionArgs& args, bool tensor_cores) {
  Plan plan;
  Carver carver(args.workspace);
  AttentionParams p = ToParams(args, &carver);
  const int64_t tiles = p.heads * (CeilDiv(p.tokens, kNarrowTile) + p.rows - 1);
  if (p.tokens <= p.rows) {
    AddDecoding(p, RowChoice::kAll, tensor_cores, &carver, &plan);
    plan.prepared = !tensor_cores;
  } else if (!tensor_cores) {
    p.slots = p.tokens;
    p.tile_queries = 1;
    ChooseSplits(tiles, kPrefillBlocks, kMaxSplits, &p, &carver);
    plan.Add(LaunchAttentionPlain, p);
  } else {
    if (p.rows > 1) AddDecoding(p, RowChoice::kOneToken, true, &carver, &plan);
    p.choice = RowChoice::kSeveralTokens;
    p.slots = p.tokens;
    p.tile_queries = TileQueries(p);
    p.tile_heads = p.tile_queries == kNarrowTile ? TileHeads(p) : 1;
    p.tile_queries /= p.tile_heads;
    ChooseSplits(tiles / p.tile_heads, kPrefillBlocks, p.tile_heads > 1 ? kMostPackedSplits : kMaxSplits, &p,
                 &carver);
    plan.Add(LaunchAttentionTensorCore, p);
  }
  plan.bytes = carver.used();
  return plan;
}

Plan ToPlan(const AttentionArgs& args, bool tensor_cores) {
  Plan plan;
  Carver carver(args.workspace);
  AttentionParams p = ToParams(args, &carver);
  p.slots = p.tokens;
  p.tile_queries = tensor_cores ? TileQueries(p) : 1;
  plan.Add(tensor_cores ? LaunchAttentionTensorCore : LaunchAttentionPlain, p);
  plan.bytes = carver.used();
  return plan;
}

// Of the kernels, tensor cores ask for more of the pointers; the workspace is enough for both.
template <typename Args>
size_t WorkspaceBytes(Args args) {
  args.workspace = nullptr;
  return std::max(ToPlan(args, false).bytes, ToPlan(args, true).bytes);
}

template <typename Args>
cudaError_t Launch(const Args& args, cudaStream_t stream) {
  if (args.workspace == nullptr || args.workspace_bytes < WorkspaceBytes(args)) return cudaErrorInvalidValue;
  const Plan plain = ToPlan(args, false);
  const Plan plan = AllowsTensorCores(plain.steps[0].params, args.dtype) ? ToPlan(args, true) : plain;
  if (plan.prepared) {
    SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchAttentionPrepare(plan.steps[0].params, args.dtype, stream));
  }
  for (int i = 0; i < plan.count; ++i) {
    const Plan::Step& step = plan.steps[i];
    SWITCHYARD_RETURN_IF_CUDA_ERROR(step.launch(step.params, args.dtype, stream));
    if (step.launch == LaunchDecodeTensorCore) continue;
    SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchAttentionCombine(step.params, stream));
  }
  return cudaSuccess;
}

cudaError_t CheckArgs(const CachedAttentionArgs& args) {
  const bool sizes = AreHeads(args.dtype, args.heads, args.kv_heads, args.head_dim) && args.pairs >= 0 &&
                     2 * args.pairs <= args.head_dim && args.tokens >= 0 && args.tokens <= INT_MAX / 2 &&
                     args.rows >= 0 && args.rows <= INT_MAX / 2 && args.window >= 0;
  const bool blocks = args.block_size >= kKeyAlignment &&
                      std::has_single_bit(static_cast<uint64_t>(args.block_size)) && args.blocks >= 0 &&
                      args.blocks <= INT_MAX && args.max_blocks >= 0 &&
                      args.max_blocks <= INT_MAX / 2 / args.block_size;
  const bool selection =
      args.selected == nullptr ||
      (args.selected_blocks > 0 && args.selected_block > 0 && args.window == 0 &&
       args.block_size % args.selected_block == 0 &&
       args.selected_blocks <= std::max<int64_t>(1, args.max_blocks * args.block_size / args.selected_block));
  const bool places =
      args.tokens == 0 || (args.rows > 0 && args.row_starts != nullptr && args.past_lengths != nullptr &&
                           args.block_tables != nullptr && args.counters != nullptr);
  return sizes && blocks && selection && places ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t CheckArgs(const AttentionArgs& args) {
  const bool sizes = AreHeads(args.dtype, args.heads, args.kv_heads, args.head_dim) && args.batch >= 0 &&
                     args.queries >= 0 && args.keys > 0 && args.batch <= INT_MAX / 2 &&
                     args.batch * args.queries <= INT_MAX / 2 && args.batch * args.keys <= INT_MAX / 2;
  return sizes ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

bool AllowsTensorCores(const AttentionParams& params, DType dtype) {
  return dtype != DType::kFloat32 && params.head_dim <= kMaxTensorCoreHeadDim && params.head_dim % 2 == 0 &&
         params.selected == nullptr && params.scale > 0.0f && params.key_pitch % kHeadChunk == 0 &&
         IsAligned16(params.q) && IsAligned16(params.keys) && IsAligned16(params.values) &&
         IsAligned16(params.out);
}

size_t CachedAttentionWorkspaceBytes(const CachedAttentionArgs& args) { return WorkspaceBytes(args); }

size_t AttentionWorkspaceBytes(const AttentionArgs& args) { return WorkspaceBytes(args); }

cudaError_t LaunchCachedAttention(const CachedAttentionArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckArgs(args));
  if (args.tokens == 0) return cudaSuccess;
  return Launch(args, stream);
}

cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckArgs(args));
  if (args.batch == 0 || args.queries == 0) return cudaSuccess;
  return Launch(args, stream);
}

}  // namespace switchyard::cuda
