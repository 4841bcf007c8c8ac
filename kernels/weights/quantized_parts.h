// Quantized tensors from their parts, checked before anything reads them.
#pragma once
#include "weight_store.h"

namespace switchyard {

// The parts, which lie in the store, as kernels read them. Throws WeightFileError where they do not fit
// together, naming file and tensor of the part; nothing is read but column groups.
QuantizedTensor JoinParts(const QuantizedEntry& entry, const WeightStore& store);

// Throws WeightFileError where a scale, a bias or what multiplies scales is not a finite number, naming file,
// tensor, value and place. Reads all of them: a few hundredths of the tensor's bytes. `allows_zero`: whether
// a scale may be zero, as publishers have it for weights that are all zero; our own rounding never writes
// one.
void CheckScales(const WeightStore& store, const StoredTensor& tensor, bool allows_zero = true);

}  // namespace switchyard
