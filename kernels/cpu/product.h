// Products of activations with weight matrices of any dtype and layout, cut into blocks that threads share.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../common/float_types.h"
#include "../common/row_panels.h"
#include "arch/isa.h"
#include "kernels.h"
#include "quantized/direct.h"
#include "quantized/integer.h"
#include "workspace.h"

namespace switchyard::cpu {

// Most tokens that transposed weights are streamed for in place; for more, turning a panel first is cheaper.
inline constexpr int64_t kAxpyTokens = 12;

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// The type in which tiles meet a matrix: its own, or that into which codes are expanded.
inline DType TileType(const WeightMatrix& weights, Precision precision) {
  if (weights.quantized == nullptr) return weights.dtype;
  return FloatPart(precision) == Precision::kBFloat16 ? DType::kBFloat16 : DType::kFloat32;
}

// The form in which `tokens` rows of activations meet one weight matrix: packed groups for the tile kernels,
// plain fp32 rows for the axpy kernels (transposed weights and few tokens), or rounded to int8 for integer
// codes.
class XForm {
 public:
  XForm(const KernelTable& table, const WeightMatrix& weights, Precision precision, int64_t tokens);

  bool plain() const { return plain_; }
  const IntegerForm& integer() const { return integer_; }
  // Codes are expanded as they meet these few tokens.
  bool direct() const { return direct_; }
  int64_t tokens() const { return tokens_; }
  // Whether weights are best walked from end to end, because they are used once.
  bool Streams() const { return plain_ || tokens_ == 1; }
  // Type and bytes of one weight as tiles read it.
  DType type() const { return type_; }
  int64_t WeightBytes() const { return integer_.possible ? 1 : DTypeSize(type_); }
  // Plain rows make one tile.
  int64_t tiles() const { return plain_ ? 1 : CeilDiv(tokens_, tile_tokens_); }
  // Tokens of every tile but the last.
  int64_t TileTokens() const { return tile_tokens_; }
  int64_t TileSize(int64_t tile) const;
  // In tiles [first, last).
  int64_t TokensOf(int64_t first, int64_t last) const {
    return (last - first - 1) * tile_tokens_ + TileSize(last - 1);
  }

  // Bytes of one token; the whole takes tokens times this.
  int64_t TokenBytes() const;

  // Where a tile's activations begin.
  const char* Tile(const char* x, int64_t tile) const { return x + tile * tile_tokens_ * TokenBytes(); }

  // Puts values for depths [k0, k0 + n) of one token into place; k0 is a multiple of the table's block, and
  // so is n unless it reaches the end.
  void Store(const float* values, int64_t token, int64_t k0, int64_t n, char* x) const;

  // Whether both would hold the same bytes.
  bool operator==(const XForm& other) const;

  // Makes two forms that are walked together agree on their tiles.
  static void Align(XForm& a, XForm& b) {
    a.tile_tokens_ = b.tile_tokens_ = std::min(a.tile_tokens_, b.tile_tokens_);
  }

  // What multiplies packed groups, unless the integer or direct form does.
  const Operand& operand() const { return *operand_; }

 private:
  const KernelTable* table_;
  IntegerForm integer_;
  DType type_;
  const Operand* operand_;
  PackFn pack_;
  int bytes_;    // per packed value
  int64_t run_;  // neighbouring values of a token in a packed block
  int64_t tile_tokens_;
  int64_t tokens_;
  int64_t depth_;
  bool plain_;
  bool direct_;
  bool round_;  // plain rows hold values rounded to bf16
};

// Rows [row0, row1) of a weight matrix, ready to meet activations.
class RowBlock {
 public:
  // Bytes of `panel` that a block of `rows` rows needs: transposed weights are turned there, and codes
  // expanded, once per block.
  static int64_t PanelBytes(const KernelTable& table, const WeightMatrix& weights, const XForm& form,
                            int64_t rows);

  RowBlock(const KernelTable& table, const WeightMatrix& weights, Precision precision, const XForm& form,
           int64_t row0, int64_t row1, char* panel);

  // Most values that one part of a block of `rows` rows gives.
  static int64_t MostResults(int64_t rows) {
    return std::max(kAxpyTokens * rows, std::min(rows, kPartRows) * kMostTileTokens);
  }

  // Says which rows will probably be multiplied after this block: row0 and those that follow it. The first of
  // them are fetched while the block's last rows are multiplied, if tiles read them where they lie.
  void Precedes(const WeightMatrix& weights, const XForm& form, int64_t row0);

  // Part of the block that one call multiplies: rows [row0, row1) of the block and `tokens` tokens from the
  // first one of `tile` on, `token`, in the index-th of `passes` over these rows.
  struct Part {
    int64_t row0, row1;
    int64_t tile, token, tokens;
    int64_t index, passes;
  };

  // c[t * c_stride + r - part.row0] = x[t] . row r, for the tokens t of the part (numbered from 0). While a
  // part is multiplied, the rows behind it are fetched.
  void Multiply(const char* x, const Part& part, float* c, int64_t c_stride) const;

  // Calls multiply(part) for every part of the block: as many tiles as the second-level cache holds meet
  // kPartRows rows, then the next rows, so that weights are read from memory once for all of these tiles. Row
  // panels meet two tiles at a time: few tokens then take one pass, in step with memory. Blocks for a single
  // tile of plain rows or of one token are not split.
  template <typename Body>
  void ForEachPart(int64_t tile0, int64_t tile1, const Body& multiply) const {
    const int64_t row_step = form_->Streams() ? row_count_ : kPartRows;
    const int64_t tile_step = TilesTogether(tile1 - tile0);
    const int64_t width = in_panels_ ? kPanelTiles : 1;
    for (int64_t first = tile0; first < tile1; first += tile_step) {
      const int64_t last = first + tile_step < tile1 ? first + tile_step : tile1;
      const int64_t passes = CeilDiv(last - first, width);
      for (int64_t row = 0; row < row_count_; row += row_step) {
        const int64_t row_end = row + row_step < row_count_ ? row + row_step : row_count_;
        for (int64_t index = 0; index < passes; ++index) {
          const int64_t tile = first + index * width;
          const int64_t tokens = form_->TokensOf(tile, std::min(tile + width, last));
          multiply(Part{row, row_end, tile, tile * form_->TileTokens(), tokens, index, passes});
        }
      }
    }
  }

 private:
  // A multiple of every table's block, so that a part's results fill whole packed blocks.
  static constexpr int64_t kPartRows = 32;
  static_assert(kPartRows % kPanelRows == 0);

  // Most tiles that row panels meet at a time.
  static constexpr int64_t kPanelTiles = 2;

  // How many of so many tiles to take at a time.
  int64_t TilesTogether(int64_t tiles) const;

  // Rows that tiles read where they lie, from row0 on: in complete row panels, or as they are stored.
  struct InPlace {
    const char* rows = nullptr;  // null: they are turned or expanded first
    int64_t stride = 0;          // bytes, of one row in row panels
    bool in_panels = false;
  };
  static InPlace FindInPlace(const WeightMatrix& weights, const Operand& operand, int64_t row0);
  // Sets what a tile fetches of the next part.
  void Prefetch(const Part& part, TileArgs& args) const;

  const KernelTable* table_;
  const WeightMatrix* weights_;
  const XForm* form_;
  IntegerBlock integer_;        // instead of the rest, where the form says so
  DirectBlock direct_;          // likewise
  const char* rows_ = nullptr;  // first row, in place or in the panel
  int64_t row_stride_ = 0;      // bytes, of one row in row panels
  int64_t row_count_;
  const char* next_ = nullptr;  // first rows of what comes after the block
  int64_t next_bytes_ = 0;
  TileFn tile_;             // reads them
  bool in_memory_;          // they come from memory rather than a cache
  bool in_panels_ = false;  // row panels
};

// How the products of one stage are cut: each run of tokens meets `rows` weight rows in blocks of rows and of
// tiles. Item i of the stage is block Find(i); items of one run are neighbours.
class BlockPlan {
 public:
  struct Block {
    int64_t run;
    int64_t row0, row1;
    int64_t tile0, tile1;
  };

  BlockPlan(Workspace& workspace, int64_t runs);
  // Adds the next run: `tiles` tiles against `rows` rows, at most so many of each in a block.
  void Add(int64_t rows, int64_t rows_per_block, int64_t tiles, int64_t tiles_per_block);
  int64_t items() const { return starts_[runs_]; }
  Block Find(int64_t item) const;

 private:
  struct Cut {
    int64_t rows, rows_per_block;
    int64_t tiles, tiles_per_block, tile_blocks;
  };
  Cut* cuts_;
  int64_t* starts_;  // first item of each run, and the end
  int64_t runs_ = 0;
};

// What a stage does in all, which decides how finely it is cut.
struct StageWork {
  int64_t threads = 1;
  int64_t rows = 0;   // weight rows over all runs
  int64_t units = 0;  // tiles times rows over all runs

  void Add(int64_t run_rows, int64_t tiles) {
    rows += run_rows;
    units += run_rows * tiles;
  }
};

// Most rows a block of any stage has.
inline constexpr int64_t kMaxBlockRows = 1024;

// Rows per block for `matrices` matrices like `weights` that are walked together. A multiple of every table's
// block.
int64_t RowsPerBlock(const StageWork& work, const WeightMatrix& weights, int64_t matrices, const XForm& form);

// Tiles per block of `rows_per_block` rows.
int64_t TilesPerBlock(const StageWork& work, int64_t rows_per_block);

}  // namespace switchyard::cpu
