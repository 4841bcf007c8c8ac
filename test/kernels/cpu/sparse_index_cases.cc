// The sparse index of attention, and causal convolutions, against plain loops in double precision.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/kernels.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

constexpr int64_t kPoolBlock = 16;

// Rows of 0 to 70 new tokens behind 0 to 60 earlier ones, in a pool of shuffled blocks.
struct IndexCase {
  IndexCase(int64_t block_size, Random& random) : block(block_size) {
    const int64_t count = random.Int(1, 3);
    table_size = 9;
    std::vector<int32_t> pool(static_cast<size_t>(count * table_size));
    std::iota(pool.begin(), pool.end(), 0);
    for (size_t i = pool.size(); i > 1; --i)
      std::swap(pool[i - 1], pool[static_cast<size_t>(random.Int(0, static_cast<int64_t>(i) - 1))]);
    tables = pool;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t past = random.Int(0, 60), new_tokens = random.Int(0, 70);
      rows.push_back({tokens, new_tokens, past, past + new_tokens});
      tokens += new_tokens;
    }
    keys = random.Normals(static_cast<int64_t>(tables.size()) * kPoolBlock * dim);
    q = random.Normals(tokens * heads * dim);
    norm = random.Normals(dim);
    cos = random.Normals(tokens * pairs);
    sin = random.Normals(tokens * pairs);
  }

  float* KeyAt(std::vector<float>& of, int64_t row, int64_t position) const {
    const int32_t at = tables[static_cast<size_t>(row * table_size + position / kPoolBlock)];
    return of.data() + (at * kPoolBlock + position % kPoolBlock) * dim;
  }

  int64_t block, heads = 7, dim = 22, pairs = 5, top = 5, table_size = 0, tokens = 0;
  std::vector<AttentionRow> rows;
  std::vector<int32_t> tables;
  std::vector<float> keys, q, norm, cos, sin;
};

// The key that a block gets when `token` completes it.
std::vector<double> BlockKey(const IndexCase& c, std::vector<float>& keys, int64_t row, int64_t token) {
  const int64_t last = c.rows[static_cast<size_t>(row)].past + token;
  std::vector<double> mean(static_cast<size_t>(c.dim), 0.0), key(mean);
  for (int64_t p = last + 1 - c.block; p <= last; ++p)
    for (int64_t d = 0; d < c.dim; ++d)
      mean[static_cast<size_t>(d)] +=
          static_cast<double>(c.KeyAt(keys, row, p)[d]) / static_cast<double>(c.block);
  double squares = 0.0;
  for (const double value : mean) squares += value * value / static_cast<double>(c.dim);
  for (size_t d = 0; d < mean.size(); ++d)
    mean[d] *= static_cast<double>(c.norm[d]) / std::sqrt(squares + 1e-6);
  key = mean;
  const int64_t at = (c.rows[static_cast<size_t>(row)].first + token) * c.pairs;
  for (int64_t i = 0; i < c.pairs; ++i) {
    const double x = mean[static_cast<size_t>(i)], y = mean[static_cast<size_t>(i + c.pairs)];
    const double cos = c.cos[static_cast<size_t>(at + i)], sin = c.sin[static_cast<size_t>(at + i)];
    key[static_cast<size_t>(i)] = x * cos - y * sin;
    key[static_cast<size_t>(i + c.pairs)] = y * cos + x * sin;
  }
  return key;
}

double Score(const IndexCase& c, std::vector<float>& keys, int64_t row, int64_t token, int64_t block) {
  const float* key = c.KeyAt(keys, row, block * c.block + c.block - 1);
  double sum = 0.0;
  for (int64_t h = 0; h < c.heads; ++h) {
    double product = 0.0;
    for (int64_t d = 0; d < c.dim; ++d) {
      const int64_t at = ((c.rows[static_cast<size_t>(row)].first + token) * c.heads + h) * c.dim + d;
      product += static_cast<double>(c.q[static_cast<size_t>(at)]) * static_cast<double>(key[d]);
    }
    sum += std::max(0.0, product);
  }
  return sum;
}

// Whether a token's list is what its scores ask for, but for differences that rounding makes.
bool IsBest(const IndexCase& c, std::vector<float>& keys, int64_t row, int64_t token, const int32_t* list) {
  const int64_t complete = (c.rows[static_cast<size_t>(row)].past + token + 1) / c.block;
  if (complete <= c.top) return std::all_of(list, list + c.top, [](int32_t i) { return i == -1; });
  double worst_kept = 1e30, best_left = -1e30;
  for (int64_t i = 0, at = 0; i < complete; ++i) {
    const double score = Score(c, keys, row, token, i);
    if (at < c.top && list[at] == i) {
      worst_kept = std::min(worst_kept, score);
      at++;
    } else {
      best_left = std::max(best_left, score);
    }
    if (i + 1 == complete && at != c.top) return false;
  }
  return best_left <= worst_kept + 1e-4 * (1.0 + std::abs(worst_kept));
}

void Indexes() {
  Random random(70);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (int round = 0; round < 12; ++round) {
      const IndexCase c(int64_t{1} << random.Int(0, 4), random);
      std::vector<float> keys = c.keys;
      std::vector<int32_t> selected(static_cast<size_t>(c.tokens * c.top), -7);
      TestPool pool(static_cast<int>(random.Int(1, 4)));
      BlockIndex({.q = c.q.data(),
                  .keys = keys.data(),
                  .dtype = DType::kFloat32,
                  .layout = {.block_size = kPoolBlock,
                             .block_stride = kPoolBlock * c.dim,
                             .head_stride = 0,
                             .token_stride = c.dim,
                             .tables = c.tables.data(),
                             .table_size = c.table_size},
                  .rows = c.rows.data(),
                  .row_count = static_cast<int64_t>(c.rows.size()),
                  .tokens = c.tokens,
                  .heads = c.heads,
                  .dim = c.dim,
                  .block = c.block,
                  .top = c.top,
                  .rotation = {c.norm.data(), 1e-6f, c.cos.data(), c.sin.data(), c.pairs},
                  .selected = selected.data()},
                 workspace, pool);
      workspace.Reset();
      std::vector<float> before = c.keys, expected = c.keys;
      for (size_t r = 0; r < c.rows.size(); ++r) {
        const int64_t row = static_cast<int64_t>(r);
        for (int64_t t = 0; t < c.rows[r].tokens; ++t) {
          if ((c.rows[r].past + t + 1) % c.block != 0) continue;
          const std::vector<double> key = BlockKey(c, before, row, t);
          float* at = c.KeyAt(expected, row, c.rows[r].past + t);
          for (size_t d = 0; d < key.size(); ++d) at[d] = static_cast<float>(key[d]);
        }
        for (int64_t t = 0; t < c.rows[r].tokens; ++t) {
          if (IsBest(c, keys, row, t, selected.data() + (c.rows[r].first + t) * c.top)) continue;
          Fail("[%s] BlockIndex of %lld: row %lld, token %lld", isa, static_cast<long long>(c.block),
               static_cast<long long>(row), static_cast<long long>(t));
        }
      }
      for (size_t i = 0; i < keys.size(); ++i) {
        if (std::abs(keys[i] - expected[i]) < 1e-4f * (1.0f + std::abs(expected[i]))) continue;
        Fail("[%s] BlockIndex of %lld: key value %zu is %g, expected %g", isa,
             static_cast<long long>(c.block), i, static_cast<double>(keys[i]),
             static_cast<double>(expected[i]));
        break;
      }
    }
  }
}

// One row in one call, then in calls of a few tokens, beside another row.
void Convolutions() {
  Random random(71);
  Workspace workspace;
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (int round = 0; round < 12; ++round) {
      const int64_t channels = random.Int(1, 40), kernel = random.Int(1, 5), dilation = random.Int(1, 4);
      const int64_t context = (kernel - 1) * dilation, tokens = random.Int(1, 30);
      const std::vector<float> x = random.Normals(tokens * channels),
                               weight = random.Normals(kernel * channels);
      std::vector<double> expected;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t c = 0; c < channels; ++c) {
          double sum = 0.0;
          for (int64_t tap = 0; tap < kernel; ++tap) {
            const int64_t from = t - (kernel - 1 - tap) * dilation;
            if (from >= 0)
              sum += static_cast<double>(x[static_cast<size_t>(from * channels + c)]) *
                     static_cast<double>(weight[static_cast<size_t>(tap * channels + c)]);
          }
          expected.push_back(sum / (1.0 + std::exp(-sum)));
        }
      }
      std::vector<float> kept = random.Normals(context * channels),
                         other = random.Normals(context * channels);
      for (int64_t done = 0; done < tokens;) {
        const int64_t count = round % 2 == 0 ? tokens : std::min(tokens - done, random.Int(1, 3));
        // A row without tokens keeps what it has.
        const std::vector<float> before = other;
        const ConvRow rows[] = {{0, 0, false, other.data()}, {0, count, done == 0, kept.data()}};
        Output y(count * channels);
        TestPool pool(static_cast<int>(random.Int(1, 3)));
        CausalConv({.x = x.data() + done * channels,
                    .weight = weight.data(),
                    .rows = rows,
                    .row_count = 2,
                    .tokens = count,
                    .channels = channels,
                    .kernel = kernel,
                    .dilation = dilation,
                    .y = y.data()},
                   workspace, pool);
        workspace.Reset();
        y.CheckGuards("CausalConv");
        if (other != before) Fail("[%s] CausalConv changed what a row without tokens keeps", isa);
        for (int64_t i = 0; i < y.size(); ++i) {
          const double wanted = expected[static_cast<size_t>(done * channels + i)];
          if (std::abs(static_cast<double>(y[i]) - wanted) < 1e-5 * (1.0 + std::abs(wanted))) continue;
          Fail("[%s] CausalConv of %lld taps, dilation %lld: value %lld", isa, static_cast<long long>(kernel),
               static_cast<long long>(dilation), static_cast<long long>(i));
          break;
        }
        done += count;
      }
    }
  }
}

}  // namespace

std::vector<Group> SparseIndexGroups() {
  return {
      {"tokens choose the blocks that score best", Indexes},
      {"convolutions look back, over calls too", Convolutions},
  };
}

}  // namespace switchyard::cpu
