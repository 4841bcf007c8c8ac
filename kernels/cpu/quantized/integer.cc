#include "integer.h"

#include <algorithm>
#include <cstring>

#include "../../common/quantized_elements.h"
#include "../product.h"
#include "code_rows.h"
#include "row_groups.h"

namespace switchyard::cpu {
namespace {

// Rows of one call of a kernel that reads in place: their scales, which are written out first, stay in the
// first-level cache.
constexpr int64_t kRowsTogether = 16;
constexpr int64_t kColumnsTogether = 128;
// The same where a row has a single scale, by which its sum is multiplied in the end, and where scales are
// read as they lie.
constexpr int64_t kManyRowsTogether = 128;

// e2m1 doubled, plus 12.
constexpr uint8_t kE2m1Codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

int64_t Blocks(int64_t depth) { return CeilDiv(depth, kIntegerBlock); }
// Blocks, those that fill up the last chunk included.
int64_t FilledBlocks(int64_t depth) { return IntegerRow::Chunks(depth) * (kIntegerChunk / kIntegerBlock); }

int64_t Groups(const QuantizedTensor& q) { return q.col_groups(); }
int64_t BlocksPerGroup(const QuantizedTensor& q) {
  return Groups(q) == 1 ? Blocks(q.cols) : q.group_cols / kIntegerBlock;
}

// Nibbles that kernels read in place, word by word, for many rows at once.
bool LiesInColumns(const QuantizedTensor& q) { return q.order == CodeOrder::kColumns && q.bits == 4; }

int64_t FloatBytes(int64_t count) { return RoundUp(count * static_cast<int64_t>(sizeof(float)), 64); }

// The scales of rows as products with unsigned codes need them, and what zero points and biases add.
class ScaleReader {
 public:
  static int64_t Scratch(const QuantizedTensor& q) { return RowGroups::Bytes(Groups(q)); }

  ScaleReader(const KernelTable& table, const IntegerForm& form, const WeightMatrix& weights, char* scratch)
      : table_(table), form_(form), weights_(weights), q_(*weights.quantized) {
    groups_ = RowGroups::At(scratch, q_, Groups(q_));
  }

  // scales[g * group_step + r * row_step] for rows [row0, row1) of the matrix; offsets likewise.
  void ByGroup(int64_t row0, int64_t row1, int64_t group_step, int64_t row_step, float* scales,
               float* offsets) {
    if (!form_.has_offsets && ScalesLieAcross(q_) && row_step == 1) {
      for (int64_t g = 0; g < Groups(q_); ++g, scales += group_step) {
        ReadGroupScales(table_, q_, weights_.matrix, g, weights_.first_row + row0, weights_.first_row + row1,
                        scales);
        Scale(scales, row1 - row0);
      }
      return;
    }
    for (int64_t r = row0; r < row1; ++r) {
      Read(r);
      for (int64_t g = 0; g < Groups(q_); ++g) {
        const int64_t at = g * group_step + (r - row0) * row_step;
        scales[at] = groups_.scales[g];
        if (offsets != nullptr) offsets[at] = groups_.zeros[g];
      }
    }
  }

  // One of each a block and row, [rows][Blocks].
  void ByBlock(int64_t row0, int64_t row1, float* scales, float* offsets) {
    const int64_t blocks = Blocks(q_.cols);
    if (Groups(q_) == blocks && offsets == nullptr) return AllOf(row0, row1, scales);
    for (int64_t r = row0; r < row1; ++r, scales += blocks) {
      Read(r);
      Repeat(groups_.scales, scales);
      if (offsets != nullptr) Repeat(groups_.zeros, offsets + (r - row0) * blocks);
    }
  }

  // Those that ByBlock would read of `row`, as they are stored, with those of the rows behind it after them;
  // null where they lie otherwise or are not bf16.
  const char* InPlace(int64_t row) const {
    const bool is_by_block = q_.scale_type == ScaleType::kBFloat16 && q_.group_rows == 1 &&
                             Groups(q_) == Blocks(q_.cols) && q_.col_step == 1 && q_.row_step == Groups(q_);
    const bool is_final = CommonMultiplier(q_) == 1.0f && CommonDivisor(q_) == 1.0f && form_.factor == 1.0f;
    if (!is_by_block || !is_final || form_.has_offsets) return nullptr;
    const int64_t first = ScaleIndex(q_, weights_.matrix, weights_.first_row + row, 0);
    return reinterpret_cast<const char*>(q_.scales) + first * 2;
  }

  // Those of all groups, [rows][groups].
  void AllOf(int64_t row0, int64_t row1, float* scales) {
    ReadScales(table_, q_, weights_.matrix, weights_.first_row + row0, weights_.first_row + row1, scales);
    Scale(scales, (row1 - row0) * Groups(q_));
  }

  // Has what rows [row0, row1) need fetched.
  void Fetch(int64_t row0, int64_t row1) const {
    FetchScales(q_, weights_.matrix, weights_.first_row + row0, weights_.first_row + row1);
  }

 private:
  // Leaves in `zeros`, where there are offsets, what each group adds for every unit of x.
  void Read(int64_t row) {
    const int64_t stored = weights_.first_row + row;
    if (!form_.has_offsets) {
      ReadRowScales(table_, q_, weights_.matrix, stored, 0, Groups(q_), groups_.scales);
    } else {
      ReadRowGroups(table_, q_, weights_.matrix, stored, 0, Groups(q_), groups_);
      for (int64_t g = 0; g < Groups(q_); ++g) {
        const float zero = groups_.zeros[g] * groups_.scales[g];
        groups_.zeros[g] = (groups_.biases != nullptr ? groups_.biases[g] : 0.0f) - zero;
      }
    }
    Scale(groups_.scales, Groups(q_));
  }

  void Scale(float* scales, int64_t count) const {
    if (form_.factor == 1.0f) return;
    for (int64_t i = 0; i < count; ++i) scales[i] *= form_.factor;
  }

  void Repeat(const float* values, float* out) const {
    const int64_t blocks = Blocks(q_.cols);
    const int64_t repeats = BlocksPerGroup(q_);
    for (int64_t b = 0, g = 0; b < blocks; b += repeats, ++g)
      std::fill_n(out + b, std::min(repeats, blocks - b), values[g]);
  }

  const KernelTable& table_;
  const IntegerForm& form_;
  const WeightMatrix& weights_;
  const QuantizedTensor& q_;
  RowGroups groups_;
};

// Zeros for the blocks of the last chunk that no activation reaches; others may be written at the same time.
void FillLastChunk(const IntegerRow& row, int64_t depth, IntegerOrder order) {
  for (int64_t b = Blocks(depth); b < FilledBlocks(depth); ++b) {
    int8_t* chunk = row.codes + b * kIntegerBlock / kIntegerChunk * kIntegerChunk;
    const int64_t place = b % (kIntegerChunk / kIntegerBlock);
    if (order == IntegerOrder::kNatural) {
      std::memset(chunk + place * kIntegerBlock, 0, kIntegerBlock);
    } else {
      std::memset(chunk + place * kIntegerBlock / 2, 0, kIntegerBlock / 2);
      std::memset(chunk + kIntegerChunk / 2 + place * kIntegerBlock / 2, 0, kIntegerBlock / 2);
    }
    row.scales[b] = row.sums[b] = 0.0f;
    row.starts[b] = 0;
  }
}

}  // namespace

IntegerForm IntegerForm::Of(const KernelTable& table, const WeightMatrix& weights, Precision precision) {
  IntegerForm form;
  const QuantizedTensor* q = weights.quantized;
  if (q == nullptr || !AllowsInt8(precision) || weights.transposed) return form;
  const bool has_blocks = !q->flat() && q->column_groups == nullptr &&
                          (q->group_cols % kIntegerBlock == 0 || q->group_cols >= q->cols);
  const bool is_whole = weights.first_col == 0 && weights.cols == q->cols;
  if (!has_blocks || !is_whole || (q->bits != 4 && q->bits != 8)) return form;
  form.order = q->bits == 4 ? IntegerOrder::kSplit : IntegerOrder::kNatural;
  const bool is_signed = q->bits == 8 && table.integer->signed_bytes;
  switch (q->type) {
    case CodeType::kUint:
      form.has_offsets = q->zeros != nullptr || q->biases != nullptr;
      form.offset = form.has_offsets ? 0 : q->zero;
      if (is_signed) {
        form.flip = 0x80;
        form.offset -= 128;
      }
      break;
    case CodeType::kInt:
      form.has_offsets = q->biases != nullptr;
      if (!is_signed) {
        form.flip = 0x80;
        form.offset = 128;
      }
      break;
    case CodeType::kE2m1:
      form.has_offsets = q->biases != nullptr;
      form.values = kE2m1Codes;
      form.offset = 12;
      form.factor = 0.5f;
      break;
    default:
      return form;
  }
  form.possible = true;
  return form;
}

void StoreInteger(const KernelTable& table, const IntegerForm& form, const float* values, int64_t depth,
                  int64_t k0, int64_t n, char* x) {
  const IntegerRow row = IntegerRow::At(x, depth);
  if (k0 + n == depth) FillLastChunk(row, depth, form.order);
  table.integer->round(values, n, k0, form.order, form.offset, row);
}

int64_t IntegerBlock::Scratch(const WeightMatrix& weights, int64_t rows, int64_t tokens) {
  const QuantizedTensor& q = *weights.quantized;
  const int64_t groups = Groups(q);
  const int64_t codes = CodeRowsScratch(q, rows, weights.cols);
  const int64_t reader = ScaleReader::Scratch(q);
  if (tokens == 1) {
    const int64_t by_row = std::max(kRowsTogether * Blocks(weights.cols), kManyRowsTogether);
    const int64_t by_column = kColumnsTogether * groups;
    const int64_t in_order = q.order == CodeOrder::kRows ? 0 : LiesInColumns(q) ? 0 : codes;
    return in_order + reader + 2 * FloatBytes(std::max(by_row, by_column));
  }
  const int64_t panels = CeilDiv(rows, kIntegerPanelRows);
  const int64_t panel = Blocks(weights.cols) * kIntegerWords * kIntegerPanelRows * 4;
  return panels * (panel + 2 * FloatBytes(groups * kIntegerPanelRows)) + codes + reader + panel / 2 + 128;
}

IntegerBlock::IntegerBlock(const KernelTable& table, const IntegerForm& form, const WeightMatrix& weights,
                           int64_t tokens, int64_t row0, int64_t row1, char* scratch)
    : table_(&table),
      form_(form),
      weights_(&weights),
      in_place_(tokens == 1),
      row0_(row0),
      row1_(row1),
      panel_(scratch),
      scratch_(scratch) {
  if (!in_place_) LayOut();
}

// Scratch: panels, their scales, their offsets, then what laying them out takes.
void IntegerBlock::LayOut() {
  const QuantizedTensor& q = *weights_->quantized;
  const int64_t rows = row1_ - row0_;
  const int64_t panels = CeilDiv(rows, kIntegerPanelRows);
  const int64_t groups = Groups(q);
  const int64_t blocks = Blocks(weights_->cols);
  const int64_t panel_bytes = blocks * kIntegerWords * kIntegerPanelRows * 4;
  constexpr int64_t kWordStride = kIntegerPanelRows * 4;
  scales_ = reinterpret_cast<float*>(panel_ + panels * panel_bytes);
  float* after = scales_ + panels * FloatBytes(groups * kIntegerPanelRows) / 4;
  offsets_ = form_.has_offsets ? after : nullptr;
  char* next = reinterpret_cast<char*>(after + panels * FloatBytes(groups * kIntegerPanelRows) / 4);
  ScaleReader reader(*table_, form_, *weights_, next);
  char* codes_scratch = next + ScaleReader::Scratch(q);
  char* words = codes_scratch + CodeRowsScratch(q, rows, weights_->cols);
  const bool is_nibbles = q.bits == 4;
  const int64_t count = CeilDiv(weights_->cols * q.bits, 32);
  const int64_t first = weights_->first_row + row0_;
  CodeRows codes = {};
  if (!LiesInColumns(q)) {
    codes =
        ReadCodeRows(*table_, {&q, weights_->matrix, first, first + rows, 0, weights_->cols}, codes_scratch);
  }
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t row = p * kIntegerPanelRows;
    const int64_t width = std::min(kIntegerPanelRows, rows - row);
    char* panel = panel_ + p * panel_bytes;
    // Words of `width` rows side by side, where they do not lie so.
    char* target = is_nibbles ? words : panel;
    const char* source = target;
    int64_t stride = kWordStride;
    if (LiesInColumns(q) && width == kIntegerPanelRows) {
      source = reinterpret_cast<const char*>(q.codes) + (first + row) * 4;
      stride = q.rows * 4;
    } else if (LiesInColumns(q)) {
      for (int64_t w = 0; w < count; ++w) {
        std::memcpy(target + w * kWordStride, q.codes + (w * q.rows + first + row) * 4,
                    static_cast<size_t>(width) * 4);
      }
    } else {
      TurnWords(codes.data + row * codes.stride, codes.stride, width, target);
    }
    if (is_nibbles) {
      table_->integer->unpack(source, stride, count, form_.values, panel);
    } else if (form_.flip != 0) {
      for (int64_t i = 0; i < panel_bytes; ++i) panel[i] = static_cast<char>(panel[i] ^ form_.flip);
    }
    const int64_t place = p * FloatBytes(groups * kIntegerPanelRows) / 4;
    reader.ByGroup(row0_ + row, row0_ + row + width, kIntegerPanelRows, 1, scales_ + place,
                   offsets_ == nullptr ? nullptr : offsets_ + place);
  }
}

// The words of `rows` rows side by side; the last word of a row may be incomplete.
void IntegerBlock::TurnWords(const char* rows, int64_t stride, int64_t count, char* out) const {
  const int64_t bytes = CeilDiv(weights_->cols * weights_->quantized->bits, 8);
  constexpr int64_t kWordStride = kIntegerPanelRows * 4;
  table_->transpose32(rows, stride, count, bytes / 4, out, kWordStride);
  if (bytes % 4 == 0) return;
  for (int64_t r = 0; r < count; ++r) {
    uint32_t word = 0;
    std::memcpy(&word, rows + r * stride + bytes / 4 * 4, static_cast<size_t>(bytes % 4));
    std::memcpy(out + bytes / 4 * kWordStride + r * 4, &word, sizeof(word));
  }
}

void IntegerBlock::Multiply(const char* x, int tokens, int64_t first, int64_t last, float* c,
                            int64_t c_stride) const {
  const QuantizedTensor& q = *weights_->quantized;
  if (in_place_)
    return LiesInColumns(q) ? MultiplyColumns(x, first, last, c) : MultiplyRows(x, first, last, c);
  const int64_t panel_bytes = Blocks(weights_->cols) * kIntegerWords * kIntegerPanelRows * 4;
  for (int64_t row = first; row < last; row += kIntegerPanelRows) {
    const int64_t p = row / kIntegerPanelRows;
    const int64_t place = p * FloatBytes(Groups(q) * kIntegerPanelRows) / 4;
    table_->integer->panel[static_cast<int>(form_.order)](
        {.x = x,
         .x_stride = IntegerRow::Bytes(weights_->cols),
         .tokens = tokens,
         .depth = weights_->cols,
         .w = panel_ + p * panel_bytes,
         .w_stride = 0,
         .rows = std::min(kIntegerPanelRows, last - row),
         .blocks_per_group = BlocksPerGroup(q),
         .scales = scales_ + place,
         .offsets = offsets_ == nullptr ? nullptr : offsets_ + place,
         .scale_stride = kIntegerPanelRows,
         .c = c + row - first,
         .c_stride = c_stride});
  }
}

void IntegerBlock::MultiplyRows(const char* x, int64_t first, int64_t last, float* c) const {
  const QuantizedTensor& q = *weights_->quantized;
  const int64_t blocks = Blocks(weights_->cols);
  const bool has_single = Groups(q) == 1 && !form_.has_offsets;
  ScaleReader reader(*table_, form_, *weights_, scratch_);
  const char* in_place = has_single ? nullptr : reader.InPlace(row0_ + first);
  const int64_t together = has_single || in_place != nullptr ? kManyRowsTogether : kRowsTogether;
  const int64_t room = FloatBytes(std::max(kRowsTogether * blocks, kManyRowsTogether)) / 4;
  float* scales = reinterpret_cast<float*>(scratch_ + ScaleReader::Scratch(q));
  float* offsets = form_.has_offsets ? scales + room : nullptr;
  char* codes_scratch = reinterpret_cast<char*>(scales + 2 * room);
  const int64_t stored = weights_->first_row + row0_;
  const CodeRows codes = ReadCodeRows(
      *table_, {&q, weights_->matrix, stored + first, stored + last, 0, weights_->cols}, codes_scratch);
  const IntegerRowsFn kernel = q.bits == 4 ? table_->integer->nibbles : table_->integer->bytes;
  for (int64_t row = first; row < last; row += together) {
    const int64_t count = std::min(together, last - row);
    const int64_t begin = row0_ + row;
    if (has_single) {
      reader.AllOf(begin, begin + count, scales);
    } else if (in_place == nullptr) {
      reader.ByBlock(begin, begin + count, scales, offsets);
    }
    if (in_place == nullptr) reader.Fetch(begin + count, begin + count + together);
    float* out = c + row - first;
    kernel({.x = x,
            .depth = weights_->cols,
            .w = codes.data + (row - first) * codes.stride,
            .w_stride = codes.stride,
            .rows = count,
            .flip = form_.flip,
            .values = form_.values,
            .scales = has_single || in_place != nullptr ? nullptr : scales,
            .bf16_scales = in_place == nullptr ? nullptr : in_place + (row - first) * blocks * 2,
            .offsets = offsets,
            .scale_stride = blocks,
            .c = out});
    if (!has_single) continue;
    for (int64_t i = 0; i < count; ++i) out[i] *= scales[i];
  }
}

void IntegerBlock::MultiplyColumns(const char* x, int64_t first, int64_t last, float* c) const {
  const QuantizedTensor& q = *weights_->quantized;
  const int64_t groups = Groups(q);
  ScaleReader reader(*table_, form_, *weights_, scratch_);
  float* scales = reinterpret_cast<float*>(scratch_ + ScaleReader::Scratch(q));
  float* offsets = form_.has_offsets ? scales + FloatBytes(kColumnsTogether * groups) / 4 : nullptr;
  for (int64_t row = first; row < last; row += kColumnsTogether) {
    const int64_t count = std::min(kColumnsTogether, last - row);
    reader.ByGroup(row0_ + row, row0_ + row + count, kColumnsTogether, 1, scales, offsets);
    reader.Fetch(row0_ + row + count, row0_ + row + count + kColumnsTogether);
    table_->integer->columns(
        {.x = x,
         .x_stride = 0,
         .tokens = 1,
         .depth = weights_->cols,
         .w = reinterpret_cast<const char*>(q.codes) + (weights_->first_row + row0_ + row) * 4,
         .w_stride = q.rows * 4,
         .rows = count,
         .blocks_per_group = BlocksPerGroup(q),
         .scales = scales,
         .offsets = offsets,
         .scale_stride = kColumnsTogether,
         .c = c + row - first,
         .c_stride = 0});
  }
}

}  // namespace switchyard::cpu
