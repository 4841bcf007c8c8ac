#include "expert_layout.h"

#include <algorithm>
#include <functional>

#include "../common/quantized_elements.h"
#include "../platform/file_view.h"

namespace switchyard {
namespace {

constexpr uint64_t kBlock = platform::kUncachedAlignment;
// Reading on over a gap of so many bytes, if it is no more than what comes before, costs less than another
// read.
constexpr uint64_t kGapBytes = 64 << 10;
// A part that serves several matrices is read for each of them up to this size.
constexpr size_t kSharedBytes = 64 << 10;

// Bytes of a mapped file.
struct Span {
  const MappedFile* file;
  const std::byte* data;
  size_t bytes;
};

// Scales of one matrix; 0 where groups cross from one matrix to the next.
int64_t ScalesOfMatrix(const QuantizedTensor& q) {
  if (!q.flat()) return q.matrix_step;
  return q.rows * q.cols % q.group_cols == 0 ? q.rows * q.cols / q.group_cols : 0;
}

// Whether a part consists of one piece for every matrix, all of the same size.
bool IsInPieces(const QuantizedTensor& q, const std::byte* part) {
  if (q.matrices == 1) return true;
  if (part == q.codes) return q.order == CodeOrder::kRows || q.rows * q.cols % 2 == 0;
  const int64_t scales = ScalesOfMatrix(q);
  if (part == q.scales || part == q.biases) return scales > 0;
  return part == q.table_scales && scales > 0 && scales % q.table_group == 0;
}

// Of a part of a quantized tensor, what a matrix needs; no bytes where that is too much to be read for each.
Span PieceOf(const StoredTensor& part, const QuantizedTensor& q, int64_t matrix) {
  if (IsInPieces(q, part.data)) {
    const size_t bytes = part.bytes / static_cast<size_t>(q.matrices);
    return {part.file, part.data + static_cast<size_t>(matrix) * bytes, bytes};
  }
  return {part.file, part.data, part.bytes <= kSharedBytes ? part.bytes : 0};
}

// All rows of a plain matrix, with what lies between them.
Span SpanOf(const WeightRef& ref) {
  const int64_t rows = ref.transposed ? ref.cols : ref.rows, width = ref.transposed ? ref.rows : ref.cols;
  const int64_t size = DTypeSize(ref.dtype());
  return {ref.values->file, ref.values->data + ref.First() * size,
          static_cast<size_t>(((rows - 1) * ref.stride + width) * size)};
}

void AddSpans(const WeightStore& store, const WeightRef& ref, std::vector<Span>& spans) {
  const QuantizedTensor* q = ref.values->quantized.get();
  if (q == nullptr) return spans.push_back(SpanOf(ref));
  for (const int64_t handle : ref.values->parts)
    spans.push_back(PieceOf(store.Get(handle), *q, ref.first_row / q->rows));
}

// Whole blocks, joined where they are near each other.
std::vector<FileStretch> Join(std::vector<Span> spans) {
  std::erase_if(spans, [](const Span& span) { return span.bytes == 0 || !span.file->is_file(); });
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.file != b.file ? std::less<>()(a.file, b.file) : a.data < b.data;
  });
  std::vector<FileStretch> stretches;
  for (const auto& [file, data, bytes] : spans) {
    const auto begin = static_cast<uint64_t>(data - file->data());
    const uint64_t first = begin / kBlock * kBlock, last = (begin + bytes + kBlock - 1) / kBlock * kBlock;
    FileStretch* before = stretches.empty() ? nullptr : &stretches.back();
    const bool is_near =
        before != nullptr && before->file == file &&
        first <= before->offset + before->bytes + std::min<uint64_t>(kGapBytes, before->bytes);
    if (is_near) {
      before->bytes = std::max<uint64_t>(before->offset + before->bytes, last) - before->offset;
    } else {
      stretches.push_back({file, first, last - first, 0});
    }
  }
  return stretches;
}

const std::byte* QuantizedTensor::*const kParts[] = {
    &QuantizedTensor::codes,        &QuantizedTensor::values,       &QuantizedTensor::scales,
    &QuantizedTensor::table_values, &QuantizedTensor::table_scales, &QuantizedTensor::zeros,
    &QuantizedTensor::biases,       &QuantizedTensor::column_groups};

}  // namespace

ExpertLayout::ExpertLayout(const WeightStore& store, const ExpertRefs& refs) : refs_(refs) {
  std::vector<Span> spans;
  for (const WeightRef& ref : {refs.gate, refs.up, refs.down}) AddSpans(store, ref, spans);
  stretches_ = Join(std::move(spans));
  for (FileStretch& stretch : stretches_) {
    stretch.place = slot_bytes_;
    slot_bytes_ += stretch.bytes;
  }
  matrices_ = {Describe(store, refs.gate), Describe(store, refs.up), Describe(store, refs.down)};
}

ExpertLayout::Matrix ExpertLayout::Describe(const WeightStore& store, const WeightRef& ref) const {
  const QuantizedTensor* q = ref.values->quantized.get();
  if (q == nullptr) return {.is_moved = ref.values->file->is_file()};
  Matrix how = {.multiply = CommonMultiplier(*q), .divide = CommonDivisor(*q)};
  for (const int64_t handle : ref.values->parts) {
    const Span piece = PieceOf(store.Get(handle), *q, ref.first_row / q->rows);
    if (piece.bytes == 0 || !piece.file->is_file()) continue;
    for (const auto part : kParts) {
      if (q->*part == store.Get(handle).data) how.parts.push_back({part, piece.data});
    }
  }
  return how;
}

ExpertWeights ExpertLayout::InSlot(const std::byte* slot, SlotDescriptions& descriptions) const {
  return {InSlot(refs_.gate, matrices_[0], slot, descriptions[0]),
          InSlot(refs_.up, matrices_[1], slot, descriptions[1]),
          InSlot(refs_.down, matrices_[2], slot, descriptions[2])};
}

WeightMatrix ExpertLayout::InSlot(const WeightRef& ref, const Matrix& how, const std::byte* slot,
                                  QuantizedTensor& description) const {
  WeightMatrix matrix = InPlace(ref);
  if (how.is_moved) matrix.data = Moved(static_cast<const std::byte*>(matrix.data), slot);
  if (matrix.quantized == nullptr) return matrix;
  const QuantizedTensor& stored = *matrix.quantized;
  description = stored;
  for (const auto& [part, piece] : how.parts) {
    // Indices go on counting from the first matrix, wherever that is now.
    const auto before = static_cast<uintptr_t>(piece - stored.*part);
    description.*part =
        reinterpret_cast<const std::byte*>(reinterpret_cast<uintptr_t>(Moved(piece, slot)) - before);
  }
  description.multiplier = description.divisor = nullptr;
  description.multiply = how.multiply;
  description.divide = how.divide;
  matrix.quantized = &description;
  return matrix;
}

// Every piece lies in a stretch.
const std::byte* ExpertLayout::Moved(const std::byte* mapped, const std::byte* slot) const {
  for (const auto& [file, offset, bytes, place] : stretches_) {
    const std::byte* begin = file->data() + offset;
    if (!std::less<>()(mapped, begin) && std::less<>()(mapped, begin + bytes))
      return slot + place + (mapped - begin);
  }
  return mapped;
}

}  // namespace switchyard
