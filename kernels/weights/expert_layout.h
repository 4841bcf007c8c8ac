// Where the bytes of one expert lie in their files, and how they lie side by side in memory.
#pragma once
#include <array>
#include <cstddef>
#include <vector>

#include "../common/quantized.h"
#include "../common/types.h"
#include "weight_ref.h"

namespace switchyard {

// Whole blocks of a file, and the byte of a slot that they are read to.
struct FileStretch {
  const MappedFile* file;
  uint64_t offset;  // a multiple of platform::kUncachedAlignment, as are the next two
  size_t bytes;
  size_t place;
};

// What describes the quantized matrices of an expert in a slot: gate, up, down.
using SlotDescriptions = std::array<QuantizedTensor, 3>;

class ExpertLayout {
 public:
  // Tensors that lie in no file, and large parts that several matrices share in no whole pieces, are read
  // where they are mapped.
  ExpertLayout(const WeightStore& store, const ExpertRefs& refs);

  // What neighbours share, such as the block where one ends and the next begins, is read for each of them.
  const std::vector<FileStretch>& stretches() const { return stretches_; }
  size_t slot_bytes() const { return slot_bytes_; }
  const ExpertRefs& refs() const { return refs_; }

  // The matrices once their stretches have been read to a slot. They point to `descriptions`, which is filled
  // for them.
  ExpertWeights InSlot(const std::byte* slot, SlotDescriptions& descriptions) const;

 private:
  // A part of a quantized tensor that is read to slots: of several matrices in it, the piece of this one.
  struct MovedPart {
    const std::byte* QuantizedTensor::*part;
    const std::byte* piece;
  };
  struct Matrix {
    bool is_moved = false;              // plain ones
    std::vector<MovedPart> parts = {};  // quantized ones
    float multiply = 1, divide = 1;     // what all scales share
  };
  Matrix Describe(const WeightStore& store, const WeightRef& ref) const;
  WeightMatrix InSlot(const WeightRef& ref, const Matrix& how, const std::byte* slot,
                      QuantizedTensor& description) const;
  const std::byte* Moved(const std::byte* mapped, const std::byte* slot) const;

  ExpertRefs refs_;
  std::vector<FileStretch> stretches_;
  size_t slot_bytes_ = 0;
  std::array<Matrix, 3> matrices_;  // gate, up, down
};

}  // namespace switchyard
