// What the attributes of the ops with weights say: read and checked against the session's store, the same way
// for every device.
#pragma once
#include <string>
#include <vector>

#include "../common/types.h"
#include "op.h"
#include "stored_weight.h"

namespace switchyard::ops {

// Each constructor throws std::runtime_error naming node, attribute and tensor.
struct LinearAttributes {
  Precision precision;
  std::vector<WeightMatrix> weights, biases;  // an empty matrix where a weight has no bias
  LinearAttributes(const KernelInfo& info, const WeightStore& store);
};

struct EmbeddingAttributes {
  WeightMatrix table;
  EmbeddingAttributes(const KernelInfo& info, const WeightStore& store);
};

struct GatedMlpAttributes {
  Precision precision;
  WeightMatrix gate, up, down, output_gate;  // output_gate may be empty
  GatedMlpAttributes(const KernelInfo& info, const WeightStore& store);
};

struct MoeRouterAttributes {
  Precision precision;
  WeightMatrix weight;
  int64_t top_k;
  bool normalize;
  MoeRouterAttributes(const KernelInfo& info, const WeightStore& store);
};

class MoeExpertsAttributes {
 public:
  struct Expert {
    WeightMatrix gate, up;  // [intermediate, hidden]
    WeightMatrix down;      // [hidden, intermediate]
  };
  Precision precision;
  int64_t num_experts, hidden, intermediate;
  std::vector<Expert> experts;

  MoeExpertsAttributes(const KernelInfo& info, const WeightStore& store);

  // Throw std::runtime_error beginning with `node` unless the inputs of a run fit.
  ExpertsImplementation CheckImplementation(const std::string& node, const ort::TensorView& selector) const;
  void CheckShapes(const std::string& node, const ort::TensorView& x, const ort::TensorView& indices,
                   const ort::TensorView& weights, const ort::TensorView& calls) const;

 private:
  void ReadSeparate(const KernelInfo& info, const WeightStore& store);
  void ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed);
};

// The attributes every attention op has.
struct AttentionAttributes {
  int64_t heads, kv_heads;
  float scale;
  Precision precision;
  explicit AttentionAttributes(const KernelInfo& info);
};

struct CachedAttentionAttributes : AttentionAttributes {
  // In the order of the op's inputs and outputs.
  enum Input : size_t {
    kQ,
    kK,
    kV,
    kCos,
    kSin,
    kPastKey,
    kPastValue,
    kRowStarts,
    kPastLengths,
    kBlockTables
  };
  enum Output : size_t { kAttended, kPresentKey, kPresentValue };
  // What the shapes of one run say.
  struct Sizes {
    int64_t tokens, rows, head_dim;
    int64_t rotated;  // pairs of values of a head that the rotation turns
    int64_t blocks, block_size;
    int64_t max_blocks;  // of a row
  };

  int64_t window;  // -1: none
  float epsilon;
  const StoredTensor* q_norm;  // [head_dim], or null
  const StoredTensor* k_norm;
  CachedAttentionAttributes(const KernelInfo& info, const WeightStore& store);

  // Throws std::runtime_error beginning with `node` unless the inputs of a run fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;
};

// Size of a head of `input`, whose shape must be `leading`, as "[batch, tokens", and the number of heads
// times that size; throws otherwise.
int64_t HeadSize(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                 const char* leading, int64_t heads);

// Throws unless `input` has this shape.
void CheckShape(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& expected);

}  // namespace switchyard::ops
