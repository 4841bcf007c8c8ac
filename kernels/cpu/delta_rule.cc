#include "delta_rule.h"

#include <algorithm>
#include <cstring>

#include "product.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kChunk = 64;
static_assert(kChunk % kPanelColumns == 0);

}  // namespace

struct DeltaChunks::Scratch {
  float* state;       // [key_dim, columns]
  float* keys;        // [key_dim, kChunk]: transposed
  float* scaled;      // [kChunk, key_dim]
  float* decays;      // [kChunk, kChunk]
  float* from_start;  // [kChunk]: the factor by which the state falls from the chunk's begin to each token
  float* mutual;      // [kChunk, kChunk]: what a token's delta takes of each one before it
  float* seen;        // [kChunk, kChunk]: what a token's result takes of each one's delta
  float* deltas;      // [kChunk, columns]
  float* out;         // [kChunk, columns]
};

DeltaChunks::DeltaChunks(const KernelTable& table, int64_t key_dim, int64_t value_dim)
    : table_(table), key_dim_(key_dim), value_dim_(value_dim), columns_(RoundUp(value_dim, kPanelColumns)) {}

int64_t DeltaChunks::ScratchFloats() const {
  return key_dim_ * columns_ + 2 * kChunk * key_dim_ + kChunk * (3 * kChunk + 1) + 2 * kChunk * columns_;
}

DeltaChunks::Scratch DeltaChunks::Cut(float* scratch) const {
  const auto take = [&](int64_t floats) {
    float* part = scratch;
    scratch += floats;
    return part;
  };
  Scratch parts;
  parts.state = take(key_dim_ * columns_);
  parts.keys = take(key_dim_ * kChunk);
  parts.scaled = take(kChunk * key_dim_);
  parts.decays = take(kChunk * kChunk);
  parts.mutual = take(kChunk * kChunk);
  parts.seen = take(kChunk * kChunk);
  parts.deltas = take(kChunk * columns_);
  parts.out = take(kChunk * columns_);
  parts.from_start = take(kChunk);
  return parts;
}

void DeltaChunks::Run(const DeltaArgs& args, float* scratch) const {
  const Scratch parts = Cut(scratch);
  const size_t row_bytes = static_cast<size_t>(value_dim_) * sizeof(float);
  const size_t padding = static_cast<size_t>(columns_ - value_dim_) * sizeof(float);
  for (int64_t i = 0; i < key_dim_; ++i) {
    std::memcpy(parts.state + i * columns_, args.state + i * value_dim_, row_bytes);
    std::memset(parts.state + i * columns_ + value_dim_, 0, padding);
  }
  for (int64_t first = 0; first < args.tokens; first += kChunk)
    Chunk(args, first, std::min(kChunk, args.tokens - first), parts);
  for (int64_t i = 0; i < key_dim_; ++i)
    std::memcpy(args.state + i * value_dim_, parts.state + i * columns_, row_bytes);
}

void DeltaChunks::Chunk(const DeltaArgs& args, int64_t first, int64_t tokens, const Scratch& scratch) const {
  const float* beta = args.beta + first;
  const float* keys = args.k + first * args.stride;
  const float whole = Decays(args.decay + first, tokens, scratch);
  Scores(args, first, tokens, scratch);
  // What each token's value is beyond what the state at the chunk's begin gives for its key.
  ScaleRows(keys, args.stride, scratch.from_start, tokens, scratch);
  Multiply({scratch.scaled, key_dim_, tokens, scratch.state, columns_, key_dim_, scratch.deltas, columns_,
            columns_, false});
  for (int64_t t = 0; t < tokens; ++t) {
    float* delta = scratch.deltas + t * columns_;
    table_.scale_add(delta, -beta[t], columns_, delta, false);
    table_.scale_add(args.v + (first + t) * args.stride, beta[t], value_dim_, delta, true);
  }
  Solve(tokens, scratch);
  ScaleRows(args.q + first * args.stride, args.stride, scratch.from_start, tokens, scratch);
  Multiply({scratch.scaled, key_dim_, tokens, scratch.state, columns_, key_dim_, scratch.out, columns_,
            columns_, false});
  for (int64_t t = 0; t < tokens; t += kTileTokens) {
    const int64_t count = std::min<int64_t>(kTileTokens, tokens - t);
    Multiply({scratch.seen + t * kChunk, kChunk, count, scratch.deltas, columns_, t + count,
              scratch.out + t * columns_, columns_, columns_, true});
  }
  for (int64_t t = 0; t < tokens; ++t) {
    std::memcpy(args.out + (first + t) * args.out_stride, scratch.out + t * columns_,
                static_cast<size_t>(value_dim_) * sizeof(float));
  }
  // The state at the chunk's end.
  ScaleRows(keys, args.stride, scratch.decays + (tokens - 1) * kChunk, tokens, scratch);
  table_.transpose32(reinterpret_cast<const char*>(scratch.scaled), key_dim_ * kWordBytes, tokens, key_dim_,
                     reinterpret_cast<char*>(scratch.keys), kChunk * kWordBytes);
  table_.scale_add(scratch.state, whole, key_dim_ * columns_, scratch.state, false);
  Multiply({scratch.keys, kChunk, key_dim_, scratch.deltas, columns_, tokens, scratch.state, columns_,
            columns_, true});
}

float DeltaChunks::Decays(const float* decay, int64_t tokens, const Scratch& scratch) const {
  // As products and not as differences of logarithms: these grow along the chunk and lose digits.
  float so_far = 1.0f;
  for (int64_t i = 0; i < tokens; ++i) {
    float* row = scratch.decays + i * kChunk;
    if (i > 0) table_.scale_add(row - kChunk, decay[i], i, row, false);
    row[i] = 1.0f;
    so_far *= decay[i];
    scratch.from_start[i] = so_far;
  }
  return so_far;
}

void DeltaChunks::Scores(const DeltaArgs& args, int64_t first, int64_t tokens, const Scratch& scratch) const {
  const float* q = args.q + first * args.stride;
  const float* k = args.k + first * args.stride;
  // Columns behind the last token are multiplied too, and not looked at.
  if (tokens < kChunk) std::memset(scratch.keys, 0, static_cast<size_t>(key_dim_ * kChunk) * sizeof(float));
  table_.transpose32(reinterpret_cast<const char*>(k), args.stride * kWordBytes, tokens, key_dim_,
                     reinterpret_cast<char*>(scratch.keys), kChunk * kWordBytes);
  for (int64_t t = 0; t < tokens; t += kTileTokens) {
    const int64_t count = std::min<int64_t>(kTileTokens, tokens - t);
    const int64_t columns = RoundUp(t + count, kPanelColumns);
    Multiply({k + t * args.stride, args.stride, count, scratch.keys, kChunk, key_dim_,
              scratch.mutual + t * kChunk, kChunk, columns, false});
    Multiply({q + t * args.stride, args.stride, count, scratch.keys, kChunk, key_dim_,
              scratch.seen + t * kChunk, kChunk, columns, false});
    for (int64_t i = t; i < t + count; ++i) {
      const float* decays = scratch.decays + i * kChunk;
      float* mutual = scratch.mutual + i * kChunk;
      float* seen = scratch.seen + i * kChunk;
      const float minus_beta = -args.beta[first + i];
      for (int64_t j = 0; j < i; ++j) mutual[j] *= minus_beta * decays[j];
      for (int64_t j = 0; j <= i; ++j) seen[j] *= decays[j];
      for (int64_t j = i + 1; j < t + count; ++j) seen[j] = 0.0f;
    }
  }
}

void DeltaChunks::Solve(int64_t tokens, const Scratch& scratch) const {
  for (int64_t t = 0; t < tokens; t += kTileTokens) {
    const int64_t count = std::min<int64_t>(kTileTokens, tokens - t);
    if (t > 0) {
      Multiply({scratch.mutual + t * kChunk, kChunk, count, scratch.deltas, columns_, t,
                scratch.deltas + t * columns_, columns_, columns_, true});
    }
    for (int64_t i = t + 1; i < t + count; ++i) {
      for (int64_t j = t; j < i; ++j) {
        table_.scale_add(scratch.deltas + j * columns_, scratch.mutual[i * kChunk + j], columns_,
                         scratch.deltas + i * columns_, true);
      }
    }
  }
}

void DeltaChunks::ScaleRows(const float* x, int64_t stride, const float* factors, int64_t tokens,
                            const Scratch& scratch) const {
  for (int64_t t = 0; t < tokens; ++t)
    table_.scale_add(x + t * stride, factors[t], key_dim_, scratch.scaled + t * key_dim_, false);
}

void DeltaChunks::Multiply(const Product& product) const {
  for (int64_t t = 0; t < product.tokens; t += kTileTokens) {
    table_.panel[static_cast<int>(Precision::kFloat32)].multiply(
        {.x = reinterpret_cast<const char*>(product.x + t * product.x_stride),
         .x_stride = product.x_stride * kWordBytes,
         .tokens = static_cast<int>(std::min<int64_t>(kTileTokens, product.tokens - t)),
         .w = reinterpret_cast<const char*>(product.w),
         .w_stride = product.w_stride * kWordBytes,
         .words = product.depth,
         .columns = product.columns,
         .c = product.c + t * product.c_stride,
         .c_stride = product.c_stride,
         .accumulate = product.accumulate});
  }
}

}  // namespace switchyard::cpu
