#include "product.h"

#include <algorithm>

#include "quantized/expand.h"

namespace switchyard::cpu {
namespace {

// Bytes of turned panels that a block may hold: what a second-level cache keeps.
constexpr int64_t kPanelBytes = 1024 * 1024;

// Packed activations that stay in the second-level cache while rows pass by.
constexpr int64_t kTogetherBytes = 512 * 1024;

// Of expanded ones: these are written and read again at once, and half a cache is left for activations.
constexpr int64_t kExpandedBytes = 256 * 1024;

// Most rows of a block whose weights are read in place.
constexpr int64_t kMaxInPlaceRows = 512;

// Tiles from which on the next panel is fetched while they are multiplied.
constexpr int64_t kPanelPrefetchTiles = 3;

// Blocks are cut in multiples of this; every table's packed block divides it.
constexpr int64_t kRowUnit = 32;
static_assert(kRowUnit % kPanelRows == 0);

int64_t ElementOffset(const WeightMatrix& weights, int64_t elements) {
  return elements * DTypeSize(weights.dtype);
}

// Bytes from row to row of a panel. One cache line more than needed: rows a power of two apart would all fall
// into the same few sets of the cache.
int64_t PanelStride(const KernelTable& table, const WeightMatrix& weights, DType type) {
  const int64_t row = RoundUp(weights.cols, table.block) * DTypeSize(type);
  return RoundUp(row, 64) + 64;
}

}  // namespace

bool ReadsRowPanels(Precision precision) {
  return Kernels().matrix_operand(DType::kBFloat16, precision).panels != nullptr;
}

XForm::XForm(const KernelTable& table, const WeightMatrix& weights, Precision precision, int64_t tokens)
    : table_(&table),
      integer_(IntegerForm::Of(table, weights, precision)),
      type_(TileType(weights, precision)),
      operand_(&table.matrix_operand(type_, precision)),
      pack_(operand_->pack),
      bytes_(operand_->bytes),
      run_(operand_->pairs ? 2 : table.block),
      tile_tokens_(integer_.possible ? kTileTokens : operand_->tokens),
      tokens_(tokens),
      depth_(weights.cols),
      plain_(weights.transposed && weights.quantized == nullptr && tokens <= kAxpyTokens),
      direct_(!integer_.possible && DirectBlock::IsPossible(table, weights, precision, tokens)),
      round_(RoundsActivations(type_, precision)) {
  if (!direct_) return;
  const CodeProducts& products = table.code_products[static_cast<int>(FloatPart(precision))];
  pack_ = products.pack;
  bytes_ = products.bytes;
  run_ = table.block;
  tile_tokens_ = kTileTokens;
}

int64_t XForm::TileSize(int64_t tile) const {
  return plain_ ? tokens_ : std::min(tile_tokens_, tokens_ - tile * tile_tokens_);
}

int64_t XForm::TokenBytes() const {
  if (integer_.possible) return IntegerRow::Bytes(depth_);
  return plain_ ? depth_ * static_cast<int64_t>(sizeof(float)) : RoundUp(depth_, table_->block) * bytes_;
}

void XForm::Store(const float* values, int64_t token, int64_t k0, int64_t n, char* x) const {
  if (integer_.possible)
    return StoreInteger(*table_, integer_, values, depth_, k0, n, x + token * TokenBytes());
  if (plain_) {
    float* row = reinterpret_cast<float*>(x + token * TokenBytes()) + k0;
    if (round_) {
      table_->round_bf16(values, n, row);
    } else {
      std::memcpy(row, values, static_cast<size_t>(n) * sizeof(float));
    }
    return;
  }
  const int64_t tile = token / tile_tokens_;
  const int64_t group = TileSize(tile);
  const int64_t slot = k0 * group + (token - tile * tile_tokens_) * run_;
  pack_(values, n, group, x + tile * tile_tokens_ * TokenBytes() + slot * bytes_);
}

bool XForm::operator==(const XForm& other) const {
  if (integer_.possible || other.integer_.possible) {
    return integer_.possible == other.integer_.possible && integer_.order == other.integer_.order &&
           integer_.offset == other.integer_.offset && depth_ == other.depth_ && tokens_ == other.tokens_;
  }
  return pack_ == other.pack_ && plain_ == other.plain_ && depth_ == other.depth_ &&
         tokens_ == other.tokens_ && tile_tokens_ == other.tile_tokens_ && round_ == other.round_;
}

int64_t RowBlock::PanelBytes(const KernelTable& table, const WeightMatrix& weights, const XForm& form,
                             int64_t rows) {
  if (form.integer().possible) return IntegerBlock::Scratch(weights, rows, form.tokens());
  if (form.direct()) return DirectBlock::Scratch(weights);
  if (!weights.transposed && weights.quantized == nullptr) return 0;
  const int64_t scratch = weights.quantized == nullptr ? 0 : ExpandScratch(weights, rows);
  return rows * PanelStride(table, weights, form.type()) + scratch;
}

RowBlock::RowBlock(const KernelTable& table, const WeightMatrix& weights, Precision precision,
                   const XForm& form, int64_t row0, int64_t row1, char* panel)
    : table_(&table),
      weights_(&weights),
      form_(&form),
      row_count_(row1 - row0),
      tile_(form.operand().tile),
      in_memory_(weights.quantized == nullptr && (!weights.transposed || form.plain())) {
  if (form.integer().possible) {
    integer_ = IntegerBlock(table, form.integer(), weights, form.tokens(), row0, row1, panel);
    return;
  }
  if (form.direct()) {
    const CodeProducts& products = table.code_products[static_cast<int>(FloatPart(precision))];
    direct_ = DirectBlock(products, table, weights, row0, panel);
    return;
  }
  if (weights.quantized != nullptr) {
    row_stride_ = PanelStride(table, weights, form.type());
    rows_ = panel;
    ExpandRows(table, weights, row0, row1, form.type(), panel, row_stride_, panel + row_count_ * row_stride_);
    return;
  }
  if (const InPlace found = FindInPlace(weights, form.operand(), row0); found.rows != nullptr) {
    rows_ = found.rows;
    row_stride_ = found.stride;
    in_panels_ = found.in_panels;
    if (in_panels_) tile_ = form.operand().panels;
    return;
  }
  const char* data = static_cast<const char*>(weights.data);
  const int64_t stride = ElementOffset(weights, weights.stride);
  if (form.plain()) {
    rows_ = data + ElementOffset(weights, row0);
    row_stride_ = stride;
  } else {
    row_stride_ = PanelStride(table, weights, form.type());
    const TransposeFn transpose = DTypeSize(weights.dtype) == 2 ? table.transpose16 : table.transpose32;
    transpose(data + ElementOffset(weights, row0), stride, weights.cols, row_count_, panel, row_stride_);
    rows_ = panel;
  }
}

void RowBlock::Multiply(const char* x, const Part& part, float* c, int64_t c_stride) const {
  if (part.tokens > form_->TileTokens() && !in_panels_ && !form_->plain()) {
    // Rows beside a matrix that lies in panels.
    for (int64_t i = 0; i < kPanelTiles; ++i) {
      const int64_t tile = part.tile + i;
      const int64_t before = i * form_->TileTokens();
      Multiply(x,
               {part.row0, part.row1, tile, part.token + before, form_->TileSize(tile),
                kPanelTiles * part.index + i, kPanelTiles * part.passes},
               c + before * c_stride, c_stride);
    }
    return;
  }
  const int tokens = static_cast<int>(part.tokens);
  const int64_t depth = weights_->cols;
  const int64_t rows = part.row1 - part.row0;
  if (form_->integer().possible)
    return integer_.Multiply(form_->Tile(x, part.tile), tokens, part.row0, part.row1, c, c_stride);
  if (form_->direct()) return direct_.Multiply(x, tokens, part.row0, part.row1, c, c_stride);
  if (form_->plain()) {
    const float* first = reinterpret_cast<const float*>(x) + part.token * depth;
    table_->axpy[DTypeIndex(weights_->dtype)](
        {first, depth, tokens, rows_, row_stride_, depth, rows, c, c_stride});
    return;
  }
  TileArgs args = {form_->Tile(x, part.tile),
                   std::min(tokens, static_cast<int>(form_->TileTokens())),
                   rows_ + part.row0 * row_stride_,
                   row_stride_,
                   rows,
                   depth,
                   c,
                   c_stride,
                   in_memory_ && form_->Streams(),
                   nullptr,
                   0};
  if (tokens > args.tokens) {
    args.more_x = form_->Tile(x, part.tile + 1);
    args.more_tokens = tokens - args.tokens;
  }
  Prefetch(part, args);
  tile_(args);
}

RowBlock::InPlace RowBlock::FindInPlace(const WeightMatrix& weights, const Operand& operand, int64_t row0) {
  if (weights.quantized != nullptr) return {};
  if (weights.panels != nullptr && operand.panels != nullptr) {
    const std::byte* panels = weights.panels->complete.load(std::memory_order_acquire);
    const int64_t stride = ElementOffset(weights, weights.cols);
    if (panels != nullptr)
      return {reinterpret_cast<const char*>(panels) + weights.panels_at + row0 * stride, stride, true};
  }
  if (weights.transposed) return {};
  const int64_t stride = ElementOffset(weights, weights.stride);
  return {static_cast<const char*>(weights.data) + row0 * stride, stride, false};
}

void RowBlock::Precedes(const WeightMatrix& weights, const XForm& form, int64_t row0) {
  const InPlace found = FindInPlace(weights, form.operand(), row0);
  next_ = found.rows;
  next_bytes_ = std::min(kPartRows, weights.rows - row0) * found.stride;
}

void RowBlock::Prefetch(const Part& part, TileArgs& args) const {
  if (args.sequential) return;
  const char* from = rows_ + part.row1 * row_stride_;
  int64_t bytes = in_memory_ ? std::min(args.rows, row_count_ - part.row1) * row_stride_ : 0;
  // A panel is one stream, which the processor fetches ahead by itself: faster, while the next is not
  // waited for by many tiles.
  if (in_panels_ && part.passes < kPanelPrefetchTiles) bytes = 0;
  if (part.row1 == row_count_ && next_ != nullptr) {
    from = next_;
    bytes = next_bytes_;
  }
  if (bytes == 0) return;
  // Every tile fetches its share.
  const int64_t share = bytes / part.passes;
  const int64_t steps = CeilDiv(args.rows, table_->tile_rows) * CeilDiv(args.depth, table_->block);
  args.prefetch = from + part.index * share;
  args.prefetch_step = CeilDiv(share, steps);
}

int64_t RowBlock::TilesTogether(int64_t tiles) const {
  const int64_t most = std::max<int64_t>(4, kTogetherBytes / (form_->TileTokens() * form_->TokenBytes()));
  return RoundUp(CeilDiv(tiles, CeilDiv(tiles, most)), kPanelTiles);
}

BlockPlan::BlockPlan(Workspace& workspace, int64_t runs)
    : cuts_(workspace.Take<Cut>(runs)), starts_(workspace.Take<int64_t>(runs + 1)) {
  starts_[0] = 0;
}

void BlockPlan::Add(int64_t rows, int64_t rows_per_block, int64_t tiles, int64_t tiles_per_block) {
  const int64_t tile_blocks = CeilDiv(tiles, tiles_per_block);
  cuts_[runs_] = {rows, rows_per_block, tiles, CeilDiv(tiles, tile_blocks), tile_blocks};
  starts_[runs_ + 1] = starts_[runs_] + CeilDiv(rows, rows_per_block) * tile_blocks;
  ++runs_;
}

BlockPlan::Block BlockPlan::Find(int64_t item) const {
  const int64_t run = std::upper_bound(starts_, starts_ + runs_ + 1, item) - starts_ - 1;
  const Cut& cut = cuts_[run];
  const int64_t local = item - starts_[run];
  const int64_t row0 = local / cut.tile_blocks * cut.rows_per_block;
  const int64_t tile0 = local % cut.tile_blocks * cut.tiles_per_block;
  return {run, row0, std::min(cut.rows, row0 + cut.rows_per_block), tile0,
          std::min(cut.tiles, tile0 + cut.tiles_per_block)};
}

int64_t RowsPerBlock(const StageWork& work, const WeightMatrix& weights, int64_t matrices,
                     const XForm& form) {
  // Several blocks for each thread, so that the last ones even out the load.
  const int64_t fair = RoundUp(std::max<int64_t>(work.rows / (work.threads * 12), 1), kRowUnit);
  int64_t most = std::min(fair, kMaxInPlaceRows);
  if (form.direct() || (form.integer().possible && form.tokens() == 1)) {
    // Read where they lie.
  } else if (weights.quantized != nullptr) {
    const int64_t row_bytes = matrices * weights.cols * form.WeightBytes();
    most =
        std::min(fair, std::clamp<int64_t>(kExpandedBytes / row_bytes / kRowUnit * kRowUnit, kRowUnit, 256));
  } else if (form.plain()) {
    most = std::clamp<int64_t>(2 * fair, 512, kMaxBlockRows);
  } else if (weights.transposed) {
    const int64_t row_bytes = matrices * ElementOffset(weights, weights.cols);
    most = std::min(fair, std::clamp<int64_t>(kPanelBytes / row_bytes / kRowUnit * kRowUnit, kRowUnit, 256));
  }
  return RoundUp(CeilDiv(weights.rows, CeilDiv(weights.rows, most)), kRowUnit);
}

int64_t TilesPerBlock(const StageWork& work, int64_t rows_per_block) {
  // Every block reads its weights anew, so at least a few tiles share them.
  return std::max<int64_t>(4, work.units / (work.threads * 8 * rows_per_block));
}

}  // namespace switchyard::cpu
