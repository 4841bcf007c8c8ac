// Speed of attention over a cache in blocks: decoding and prefill after pasts of several lengths. Not part of
// the build:
//   g++ -std=c++20 -O2 -pthread kernels/cpu/bench/attention_bench.cc kernels/cpu/*.cc -o attention_bench
//   ./attention_bench [--isa NAME] [--precision 0|1] [--dtype bf16|fp16|fp32] [--threads N] [--block N]
//                     [--heads N] [--kv-heads N] [--head-dim N] [--seconds S]
// Prints, per case, the median time of one call and the values of keys and values that it could have read at
// least once a second.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "../../common/float_types.h"
#include "../arch/isa.h"
#include "../kernels.h"
#include "../workspace.h"
#include "spin_pool.h"

namespace switchyard::cpu {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  const char* isa = nullptr;
  Precision precision = Precision::kFloat32;
  DType dtype = DType::kFloat32;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int64_t block = 64, heads = 32, kv_heads = 4, head_dim = 128;
  double seconds = 0.5;
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--isa") options.isa = value;
    if (name == "--precision") options.precision = static_cast<Precision>(std::atoi(value));
    if (name == "--threads") options.threads = std::atoi(value);
    if (name == "--block") options.block = std::atoi(value);
    if (name == "--heads") options.heads = std::atoi(value);
    if (name == "--kv-heads") options.kv_heads = std::atoi(value);
    if (name == "--head-dim") options.head_dim = std::atoi(value);
    if (name == "--seconds") options.seconds = std::atof(value);
    if (name == "--dtype") {
      options.dtype = !std::strcmp(value, "bf16")   ? DType::kBFloat16
                      : !std::strcmp(value, "fp16") ? DType::kFloat16
                                                    : DType::kFloat32;
    }
  }
  return options;
}

struct Case {
  const char* name;
  int64_t rows, tokens, past;
};
constexpr Case kCases[] = {{"decode", 1, 1, 127},     {"decode", 1, 1, 511},   {"decode", 1, 1, 4095},
                           {"decode", 8, 1, 511},     {"prefill", 1, 128, 0},  {"prefill", 1, 512, 0},
                           {"prefill", 1, 512, 3584}, {"prefill", 4, 32, 480}, {"prefill", 1, 4096, 0}};

std::vector<char> Random(int64_t count, DType dtype, const KernelTable& table) {
  std::minstd_rand random(1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random() % 2000) * 1e-3f - 1.0f;
  std::vector<char> bytes(static_cast<size_t>(count * DTypeSize(dtype)));
  table.narrow[DTypeIndex(dtype)](values.data(), count, bytes.data());
  return bytes;
}

double MedianTime(const Options& options, const Case& of, ThreadPool& pool) {
  const int64_t width = options.heads * options.head_dim;
  const int64_t keys = of.past + of.tokens;
  const int64_t blocks = (keys + options.block - 1) / options.block;
  const int64_t head = options.block * options.head_dim;
  std::vector<int32_t> tables(static_cast<size_t>(of.rows * blocks));
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::minstd_rand(2));
  const int64_t pool_values = of.rows * blocks * options.kv_heads * head;
  const std::vector<char> k = Random(pool_values, options.dtype, Kernels());
  const std::vector<char> v = k;
  const std::vector<char> q = Random(of.rows * of.tokens * width, DType::kFloat32, Kernels());
  std::vector<float> out(static_cast<size_t>(of.rows * of.tokens * width));
  std::vector<AttentionRow> rows;
  for (int64_t r = 0; r < of.rows; ++r) rows.push_back({r * of.tokens, of.tokens, of.past, keys});
  const AttentionArgs args = {
      reinterpret_cast<const float*>(q.data()),
      k.data(),
      v.data(),
      options.dtype,
      {options.block, options.kv_heads * head, head, options.head_dim, tables.data(), blocks},
      out.data(),
      rows.data(),
      of.rows,
      options.heads,
      options.kv_heads,
      options.head_dim,
      true,
      0,
      0.09f,
      options.precision};
  Workspace workspace;
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  do {
    const Clock::time_point begin = Clock::now();
    Attention(args, workspace, pool);
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    workspace.Reset();
  } while (std::chrono::duration<double>(Clock::now() - start).count() < options.seconds || times.size() < 5);
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  if (options.isa != nullptr && !SelectIsa(options.isa)) {
    std::fprintf(stderr, "this processor cannot run %s\n", options.isa);
    return 2;
  }
  SpinPool pool(options.threads);
  std::printf("%s, %d threads, %lld / %lld heads of %lld, blocks of %lld\n", IsaName(), options.threads,
              static_cast<long long>(options.heads), static_cast<long long>(options.kv_heads),
              static_cast<long long>(options.head_dim), static_cast<long long>(options.block));
  for (const Case& of : kCases) {
    const double time = MedianTime(options, of, pool);
    const double bytes = 2.0 * static_cast<double>(of.rows * (of.past + of.tokens) * options.kv_heads *
                                                   options.head_dim * DTypeSize(options.dtype));
    std::printf("%-8s %lld x %4lld tokens after %4lld: %10.1f us %7.1f GB/s\n", of.name,
                static_cast<long long>(of.rows), static_cast<long long>(of.tokens),
                static_cast<long long>(of.past), time * 1e6, bytes / time * 1e-9);
  }
  return 0;
}

}  // namespace
}  // namespace switchyard::cpu

int main(int argc, char** argv) { return switchyard::cpu::Main(argc, argv); }
