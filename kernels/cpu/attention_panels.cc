#include "attention_panels.h"

#include <cstring>

#include "../common/float_types.h"
#include "product.h"

namespace switchyard::cpu {
namespace {

// Whether a key's words are what memory holds of it.
bool IsAsMemoryHolds(const AttentionArgs& args, int depths) {
  if (args.dtype == DType::kFloat32) return args.precision == Precision::kFloat32;
  return args.dtype == DType::kBFloat16 && depths == 2 && args.head_dim % 2 == 0;
}

}  // namespace

// A block of keys of a row and kv head.
struct KeyPanels::Source {
  int64_t row, kv_head;
  KeyRange keys;
};

KeyPanels::KeyPanels(const AttentionArgs& args, const KernelTable& table)
    : args_(args),
      table_(table),
      panel_(table.panel[static_cast<int>(args.precision)]),
      element_(DTypeSize(args.dtype)),
      key_words_(CeilDiv(args.head_dim, panel_.depths)),
      value_columns_(RoundUp(args.head_dim, kPanelColumns)),
      key_bytes_(key_words_ * kKeyBlock * kWordBytes),
      block_bytes_(key_bytes_ + kKeyBlock / panel_.depths * value_columns_ * kWordBytes),
      as_is_(IsAsMemoryHolds(args, panel_.depths)) {}

// A group of keys as words, or two values.
int64_t KeyPanels::scratch_bytes() const { return kKeyGroup * key_words_ * kWordBytes; }

void KeyPanels::Prepare(int64_t row, int64_t kv_head, int64_t block, char* scratch, char* panels) const {
  const int64_t begin = block * kKeyBlock;
  const Source source = {row, kv_head, {begin, std::min(begin + kKeyBlock, args_.rows[row].keys)}};
  if (source.keys.begin >= source.keys.end) return;
  PrepareKeys(source, scratch, panels);
  PrepareValues(source, scratch, panels + key_bytes_);
}

void KeyPanels::PrepareKeys(const Source& source, char* scratch, char* panel) const {
  const char* k = static_cast<const char*>(args_.k);
  const int64_t stride = args_.layout.token_stride * element_;
  const int64_t row_bytes = key_words_ * kWordBytes;
  for (int64_t first = source.keys.begin; first < source.keys.end; first += kKeyGroup) {
    const int64_t end = std::min(first + kKeyGroup, source.keys.end);
    if (end - first < kKeyGroup) std::memset(panel, 0, static_cast<size_t>(kKeyGroup * row_bytes));
    ForRuns(args_.layout, source.row, source.kv_head, first, end, [&](const KeyRun& run) {
      const char* from = k + run.offset * element_;
      if (!as_is_) {
        for (int64_t i = 0; i < run.count; ++i) Convert(from + i * stride, scratch + i * row_bytes);
      }
      table_.transpose32(as_is_ ? from : scratch, as_is_ ? stride : row_bytes, run.count, key_words_,
                         panel + (run.position - first) * kWordBytes, kKeyGroup * kWordBytes);
    });
    panel += kKeyGroup * row_bytes;
  }
}

void KeyPanels::PrepareValues(const Source& source, char* scratch, char* panel) const {
  const char* v = static_cast<const char*>(args_.v);
  const int64_t stride = args_.layout.token_stride * element_;
  const int64_t row_bytes = value_columns_ * kWordBytes;
  const size_t padding = static_cast<size_t>((value_columns_ - args_.head_dim) * kWordBytes);
  // A word's two keys lie in one run: blocks hold an even number of keys, or all of a row.
  ForRuns(args_.layout, source.row, source.kv_head, source.keys.begin, source.keys.end,
          [&](const KeyRun& run) {
            const char* from = v + run.offset * element_;
            for (int64_t i = 0; i < run.count; i += panel_.depths, panel += row_bytes) {
              if (panel_.depths == 1) {
                Convert(from + i * stride, panel);
              } else {
                const char* second = i + 1 < run.count ? from + (i + 1) * stride : nullptr;
                PairRows(from + i * stride, second, scratch, panel);
              }
              std::memset(panel + args_.head_dim * kWordBytes, 0, padding);
            }
          });
}

void KeyPanels::Convert(const char* from, char* words) const {
  if (as_is_) {
    std::memcpy(words, from, static_cast<size_t>(args_.head_dim * element_));
  } else if (args_.dtype == DType::kFloat32) {
    panel_.convert(reinterpret_cast<const float*>(from), args_.head_dim, words);
  } else if (panel_.depths == 1) {
    float* wide = reinterpret_cast<float*>(words);
    table_.widen[DTypeIndex(args_.dtype)](from, args_.head_dim, wide);
    if (args_.dtype == DType::kFloat16) panel_.convert(wide, args_.head_dim, wide);
  } else {
    float wide[kKeyGroup];
    for (int64_t d = 0; d < args_.head_dim; d += kKeyGroup) {
      const int64_t count = std::min(kKeyGroup, args_.head_dim - d);
      table_.widen[DTypeIndex(args_.dtype)](from + d * element_, count, wide);
      panel_.convert(wide, count, words + d / panel_.depths * kWordBytes);
    }
  }
}

void KeyPanels::PairRows(const char* first, const char* second, char* scratch, char* panel) const {
  const int64_t row_bytes = key_words_ * kWordBytes;
  if (!as_is_) {
    Convert(first, scratch);
    if (second != nullptr) Convert(second, scratch + row_bytes);
    first = scratch;
    if (second != nullptr) second = scratch + row_bytes;
  }
  uint16_t* out = reinterpret_cast<uint16_t*>(panel);
  const uint16_t* a = reinterpret_cast<const uint16_t*>(first);
  const uint16_t* b = reinterpret_cast<const uint16_t*>(second);
  for (int64_t d = 0; d < args_.head_dim; ++d) {
    out[2 * d] = a[d];
    out[2 * d + 1] = b == nullptr ? 0 : b[d];
  }
}

}  // namespace switchyard::cpu
