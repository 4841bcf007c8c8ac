// Keys and values made ready for many queries: a block of keys turned so that keys lie side by side.
#pragma once
#include "arch/isa.h"
#include "attention.h"

namespace switchyard::cpu {

// Keys that meet a block of queries at a time: their panels and scores stay in the second-level cache.
inline constexpr int64_t kKeyBlock = 512;

// Keys of one panel, whose scores are computed side by side while it stays in the first-level cache.
inline constexpr int64_t kKeyGroup = 4 * kPanelColumns;

// How the panels of one call's keys and values are made. A block's panels are, first, those of the keys,
// words x kKeyGroup keys, one group after the other; then that of the values, words (of one or two keys) x
// value_columns().
class KeyPanels {
 public:
  KeyPanels(const AttentionArgs& args, const KernelTable& table);

  int64_t key_words() const { return key_words_; }          // of one key or query
  int64_t value_columns() const { return value_columns_; }  // head_dim, padded
  int64_t key_bytes() const { return key_bytes_; }          // of one block's key panels
  int64_t block_bytes() const { return block_bytes_; }      // of one block's key and value panels
  int64_t scratch_bytes() const;                            // that Prepare needs

  // Panels of the keys that a row and kv head has from key block * kKeyBlock on.
  void Prepare(int64_t row, int64_t kv_head, int64_t block, char* scratch, char* panels) const;

 private:
  struct Source;
  void PrepareKeys(const Source& source, char* scratch, char* panel) const;
  void PrepareValues(const Source& source, char* scratch, char* panel) const;
  // A key's or value's words.
  void Convert(const char* from, char* words) const;
  // Two rows side by side, value by value; zeros for a second row that does not exist.
  void PairRows(const char* first, const char* second, char* scratch, char* panel) const;

  const AttentionArgs& args_;
  const KernelTable& table_;
  const PanelKernel& panel_;
  const int64_t element_;  // bytes of a value in memory
  const int64_t key_words_;
  const int64_t value_columns_;
  const int64_t key_bytes_;
  const int64_t block_bytes_;
  const bool as_is_;  // the words are what memory holds
};

}  // namespace switchyard::cpu
