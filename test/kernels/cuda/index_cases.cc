// Cases for the sparse index of attention: which blocks tokens choose, and attention to them.
#include "cached_call.h"

namespace {

using namespace testing;

constexpr float kEpsilon = 1e-6f, kNormOffset = 1.0f;

// A call over the places of a cache of one key head; `top` blocks are listed.
class IndexCall {
 public:
  IndexCall(const CacheCase& c, int block, int top)
      : c_(c),
        block_(block),
        top_(top),
        places_(c),
        q_(DType::kFloat32, Count() * c.heads.heads, 2.0f, 4),
        k_(DType::kFloat32, Count(), 2.0f, 4),
        cos_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        sin_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        block_cos_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        block_sin_(DType::kFloat32, int64_t{c.Tokens()} * c.Pairs(), 1.0f, 4),
        q_norm_(c.dtype, c.heads.head_dim, 0.5f, 2),
        k_norm_(c.dtype, c.heads.head_dim, 0.5f, 2),
        keys_(c.dtype, int64_t{places_.blocks} * c.block_size * c.heads.head_dim, 1.0f),
        selected_(size_t{4} * c.Tokens() * top, 4) {
    args_.dtype = c.dtype;
    args_.tokens = c.Tokens();
    args_.rows = static_cast<int64_t>(c.rows.size());
    args_.heads = c.heads.heads;
    args_.dim = c.heads.head_dim;
    args_.pairs = c.Pairs();
    args_.block = block;
    args_.top = top;
    args_.blocks = places_.blocks;
    args_.block_size = c.block_size;
    args_.max_blocks = c.TableSize();
    args_.q = q_.memory.As<float>();
    args_.k = k_.memory.As<float>();
    args_.cos = cos_.memory.As<float>();
    args_.sin = sin_.memory.As<float>();
    args_.block_cos = block_cos_.memory.As<float>();
    args_.block_sin = block_sin_.memory.As<float>();
    args_.q_norm = q_norm_.memory.data();
    args_.k_norm = k_norm_.memory.data();
    args_.epsilon = kEpsilon;
    args_.norm_offset = kNormOffset;
    args_.keys = keys_.memory.data();
    args_.row_starts = places_.starts.As<int32_t>();
    args_.past_lengths = places_.lengths.As<int32_t>();
    args_.block_tables = places_.tables.As<int32_t>();
    args_.selected = selected_.As<int32_t>();
    args_.workspace_bytes = BlockIndexWorkspaceBytes(args_);
    workspace_ = std::make_unique<Guarded>(args_.workspace_bytes, 256);
    args_.workspace = workspace_->data();
  }

  BlockIndexArgs& args() { return args_; }
  Places& places() { return places_; }
  const int32_t* List(int token) const { return selected_.As<int32_t>() + int64_t{token} * top_; }
  bool KeysAreUntouched() const {
    for (size_t i = 0; i < keys_.values.size(); ++i)
      if (Key(static_cast<int64_t>(i)) != keys_.values[i]) return false;
    return true;
  }
  // All keys of the pool the same, so that all scores are.
  void LevelKeys() {
    for (size_t i = 0; i < keys_.values.size(); ++i)
      StoreAs(keys_.memory.data(), c_.dtype, static_cast<int64_t>(i), 0.5f);
  }

  void LaunchAndCheck() {
    EXPECT(LaunchBlockIndex(args_, nullptr) == cudaSuccess, "launch");
    CheckKeys();
    for (int r = 0; r < static_cast<int>(c_.rows.size()); ++r)
      for (int t = 0; t < c_.rows[r].tokens; ++t) CheckList(r, t);
  }

 private:
  int64_t Count() const { return int64_t{c_.Tokens()} * c_.heads.head_dim; }
  double Key(int64_t index) const { return LoadAs(keys_.memory.data(), c_.dtype, index); }
  int64_t PlaceOf(int row, int position) const {
    const int block = places_.tables.As<int32_t>()[row * c_.TableSize() + position / c_.block_size];
    return (int64_t{block} * c_.block_size + position % c_.block_size) * c_.heads.head_dim;
  }
  int TokenOf(int row, int index) const { return places_.starts.As<int32_t>()[row] + index; }
  std::vector<double> Turned(const float* x, const Tensor& norm, const Tensor& cos, const Tensor& sin,
                             int token) const {
    const int64_t angles = int64_t{token} * c_.Pairs();
    Tensor weights(c_.dtype, c_.heads.head_dim, 0.0f, 2);
    for (int d = 0; d < c_.heads.head_dim; ++d) weights.values[d] = norm.values[d] + kNormOffset;
    return PrepareHead(x, c_.heads.head_dim, &weights, kEpsilon, cos.values.data() + angles,
                       sin.values.data() + angles, c_.Pairs());
  }

  // New keys as they came, and those of blocks that end with a new token.
  void CheckKeys() const {
    const int dim = c_.heads.head_dim;
    std::vector<double> expected(keys_.values.begin(), keys_.values.end());
    Guarded rounded(ElementSize(c_.dtype));
    for (int r = 0; r < static_cast<int>(c_.rows.size()); ++r) {
      for (int t = 0; t < c_.rows[r].tokens; ++t) {
        const int position = c_.rows[r].past + t, token = TokenOf(r, t);
        for (int d = 0; d < dim; ++d) {
          StoreAs(rounded.data(), c_.dtype, 0, k_.values[int64_t{token} * dim + d]);
          expected[PlaceOf(r, position) + d] = LoadAs(rounded.data(), c_.dtype, 0);
        }
        if ((position + 1) % block_ != 0) continue;
        std::vector<float> mean(dim, 0.0f);
        for (int p = position + 1 - block_; p <= position; ++p)
          for (int d = 0; d < dim; ++d) mean[d] += static_cast<float>(expected[PlaceOf(r, p) + d] / block_);
        const std::vector<double> key = Turned(mean.data(), k_norm_, block_cos_, block_sin_, token);
        std::copy(key.begin(), key.end(), expected.begin() + PlaceOf(r, position));
      }
    }
    const double tolerance = c_.dtype == DType::kFloat32 ? 1e-5 : c_.dtype == DType::kFloat16 ? 1e-3 : 8e-3;
    ExpectClose(keys_.memory.data(), c_.dtype, expected, tolerance, "keys");
  }

  // By the keys as they are now, so that rounding on the way there does not count.
  void CheckList(int row, int index) const {
    const int position = c_.rows[row].past + index, token = TokenOf(row, index);
    const int complete = (position + 1) / block_, dim = c_.heads.head_dim;
    const int32_t* list = List(token);
    if (complete <= top_) {
      EXPECT(std::all_of(list, list + top_, [](int32_t block) { return block == -1; }),
             "position %d sees all", position);
      return;
    }
    std::vector<double> scores(complete, 0.0);
    for (int h = 0; h < c_.heads.heads; ++h) {
      const std::vector<double> q =
          Turned(q_.values.data() + (int64_t{token} * c_.heads.heads + h) * dim, q_norm_, cos_, sin_, token);
      for (int b = 0; b < complete; ++b) {
        double product = 0.0;
        for (int d = 0; d < dim; ++d) product += q[d] * Key(PlaceOf(row, (b + 1) * block_ - 1) + d);
        scores[b] += std::max(product, 0.0);
      }
    }
    std::vector<bool> chosen(complete, false);
    int last = -1;
    for (int i = 0; i < top_; ++i) {
      EXPECT(list[i] > last && list[i] < complete, "block %d after %d of %d", list[i], last, complete);
      if (list[i] <= last || list[i] >= complete) return;
      chosen[last = list[i]] = true;
    }
    double least = std::numeric_limits<double>::infinity(), most = 0.0, largest = 0.0;
    for (int b = 0; b < complete; ++b) {
      if (chosen[b]) least = std::min(least, scores[b]);
      if (!chosen[b]) most = std::max(most, scores[b]);
      largest = std::max(largest, scores[b]);
    }
    EXPECT(least >= most - AttentionTolerance(c_.dtype) * largest, "%g was chosen before %g", least, most);
  }

  CacheCase c_;
  int block_, top_;
  Places places_;
  Tensor q_, k_, cos_, sin_, block_cos_, block_sin_, q_norm_, k_norm_, keys_;
  Guarded selected_;
  std::unique_ptr<Guarded> workspace_;
  BlockIndexArgs args_;
};

CacheCase Indexed(DType dtype, const std::vector<Row>& rows, int heads, int dim, int block_size) {
  CacheCase c = {dtype, rows, {heads, 1, dim}, block_size, 0, true};
  c.pairs = RandomInt(0, dim / 2);
  return c;
}

}  // namespace

void BlockIndexMatchesTheReference() {
  for (const DType dtype : kTypes) {
    for (const int dim : {4, 7, 64, 130}) {
      for (const int most : {1, 37}) {
        const int block = 1 << RandomInt(0, 4);
        const std::vector<Row> rows =
            most == 1 ? OneToken(RandomInt(1, 3), 300) : RandomRows(RandomInt(1, 4), most, 60);
        const CacheCase c = Indexed(dtype, rows, RandomInt(1, 4), dim, 16 << RandomInt(0, 2));
        const int blocks = c.TableSize() * c.block_size / block;
        IndexCall(c, block, std::min(RandomInt(1, 9), blocks)).LaunchAndCheck();
      }
    }
  }
  // More blocks than threads choose at a time, more than a warp scores, and a list longer than either.
  IndexCall(Indexed(DType::kFloat32, {{2, 1500}, {1, 700}}, 2, 8, 64), 2, 300).LaunchAndCheck();
}

void EqualScoresKeepTheFirstBlocks() {
  for (const DType dtype : kTypes) {
    IndexCall call(Indexed(dtype, {{1, 1200}, {1, 2}}, 2, 6, 16), 2, 40);
    call.LevelKeys();
    EXPECT(LaunchBlockIndex(call.args(), nullptr) == cudaSuccess, "launch");
    // All heads may be negative: then all scores are nothing, and equal too.
    for (int i = 0; i < 40; ++i) EXPECT(call.List(0)[i] == i, "place %d is block %d", i, call.List(0)[i]);
    EXPECT(call.List(1)[0] == -1, "a short row sees all");
  }
}

void BlockIndexRefusesPlaces() {
  const CacheCase c = Indexed(DType::kBFloat16, {{1, 20}, {3, 40}}, 2, 8, 16);
  for (const int32_t block : {-1, 1 << 30, INT_MIN, INT_MAX}) {
    IndexCall call(c, 4, 3);
    std::fill_n(call.places().tables.As<int32_t>(), c.rows.size() * c.TableSize(), block);
    EXPECT(LaunchBlockIndex(call.args(), nullptr) == cudaSuccess, "launch");
    EXPECT(call.KeysAreUntouched(), "block %d changed the keys", block);
  }
  for (const int32_t length : {-1, 1 << 20, INT_MIN, INT_MAX}) {
    IndexCall call(c, 4, 3);
    std::fill_n(call.places().lengths.As<int32_t>(), c.rows.size(), length);
    EXPECT(LaunchBlockIndex(call.args(), nullptr) == cudaSuccess, "launch");
    EXPECT(call.KeysAreUntouched() && call.List(0)[0] == -1, "length %d", length);
  }
  IndexCall call(c, 4, 3);
  const auto refuses = [&](auto change, const char* what) {
    BlockIndexArgs args = call.args();
    change(args);
    EXPECT(LaunchBlockIndex(args, nullptr) == cudaErrorInvalidValue, "%s", what);
  };
  refuses([](auto& args) { args.block = 5; }, "blocks that do not divide the pool's");
  refuses([](auto& args) { args.top = 1000; }, "a list longer than a row");
  refuses([](auto& args) { args.dim = kMostIndexDim + 1; }, "keys that are too wide");
  refuses([](auto& args) { args.pairs = 5; }, "more rotated values than a key has");
  refuses([](auto& args) { --args.workspace_bytes; }, "a workspace that is too small");
}

void SelectedAttentionMatchesTheReference() {
  constexpr Heads kHeads[] = {{4, 2, 64}, {2, 1, 256}, {3, 1, 7}};
  for (const DType dtype : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int most : {1, 37}) {
        const std::vector<Row> rows =
            most == 1 ? OneToken(RandomInt(1, 3), 400) : RandomRows(RandomInt(1, 4), most, 60);
        CacheCase c = {dtype, rows, heads, 16 << RandomInt(0, 2), 0, RandomInt(0, 1) == 0};
        c.selected_block = 1 << RandomInt(0, 4);
        c.selected = std::min(RandomInt(1, 9), c.TableSize() * c.block_size / c.selected_block);
        RunCase(c);
      }
    }
    // What is listed is split over blocks of threads; some rows' lists are not.
    CacheCase c = {dtype, {{1, 990}, {1, 30}}, {4, 2, 64}, 64, 0, true};
    c.selected_block = 4;
    c.selected = 150;
    RunCase(c);
    // Blocks that a query cannot see are not looked at, whatever the list says.
    for (const int32_t block : {30, 1000, INT_MAX, 0}) {
      c.rows = {{1, 90}, {2, 30}};
      c.selected = 5;
      CachedCall call(c);
      std::fill_n(call.selected(), 3 * c.selected, block);
      EXPECT(LaunchCachedAttention(call.args(), nullptr) == cudaSuccess, "launch");
      for (const float value : call.Out()) EXPECT(std::isfinite(value), "block %d", block);
    }
  }
}
