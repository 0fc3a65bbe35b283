// A packed batch whose lengths are those of real documents: no padding anywhere. Some rows are checked against the
// formula in double precision.
//
//   packed_documents examples/documents.attn
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "compiler/harrier.h"

namespace {

constexpr double kTolerance = 1e-4;
constexpr int kCheckedRows = 256;

harrier::Workload read_workload(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw harrier::InvalidInput("file '" + path + "' cannot be read; give the path of an .attn file");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  harrier::Workload workload = harrier::parse_workload(text);
  harrier::load_trace(workload.lengths, std::filesystem::path(path).parent_path().string());
  return workload;
}

std::vector<float> random_values(std::mt19937_64& random, int64_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() >> 40U) / 8388608.0F - 1.0F;
  return values;
}

/// What examples/documents.attn says, in C++: the first four keys and the last thousand up to the query.
bool is_visible(int64_t q, int64_t k) { return k <= q && (q - k <= 1024 || k < 4); }

struct Batch {
  std::vector<int64_t> cu_seqlens;
  int64_t heads;
  int64_t dim;
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
  std::vector<float> out;

  const float* row(const std::vector<float>& tensor, int64_t token, int64_t head) const {
    return &tensor[(token * heads + head) * dim];
  }
};

/// Largest difference between one row of the result and softmax(q . k / sqrt(dim)) v.
double row_error(const Batch& batch, int64_t begin, int64_t position, int64_t head) {
  std::vector<double> weights(position + 1, 0.0);
  double total = 0;
  for (int64_t key = 0; key <= position; ++key) {
    if (!is_visible(position, key)) continue;
    double score = 0;
    for (int64_t d = 0; d < batch.dim; ++d) {
      score += static_cast<double>(batch.row(batch.q, begin + position, head)[d]) *
               static_cast<double>(batch.row(batch.k, begin + key, head)[d]);
    }
    weights[key] = std::exp(score / std::sqrt(static_cast<double>(batch.dim)));
    total += weights[key];
  }
  double error = 0;
  for (int64_t d = 0; d < batch.dim; ++d) {
    double expected = 0;
    for (int64_t key = 0; key <= position; ++key) {
      expected += weights[key] * static_cast<double>(batch.row(batch.v, begin + key, head)[d]);
    }
    const double actual = batch.row(batch.out, begin + position, head)[d];
    // NaN compares false with everything, so it is looked for by name.
    error = std::isnan(actual) ? INFINITY : std::max(error, std::abs(actual - expected / total));
  }
  return error;
}

double error_of_some_rows(std::mt19937_64& random, const Batch& batch) {
  double error = 0;
  for (int i = 0; i < kCheckedRows; ++i) {
    const int64_t document = static_cast<int64_t>(random() % (batch.cu_seqlens.size() - 1));
    const int64_t begin = batch.cu_seqlens[document];
    const int64_t length = batch.cu_seqlens[document + 1] - begin;
    if (length == 0) continue;
    const auto position = static_cast<int64_t>(random() % static_cast<uint64_t>(length));
    error = std::max(error, row_error(batch, begin, position, i % batch.heads));
  }
  return error;
}

int run(const std::string& path) {
  const harrier::Workload workload = read_workload(path);
  const harrier::Kernel kernel = harrier::compile(workload);
  const harrier::Shape& shape = workload.shape;

  const std::vector<int64_t> lengths = harrier::sample_lengths(workload.lengths, workload.batch, 1);
  std::vector<int64_t> cu_seqlens = {0};
  for (const int64_t length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
  const int64_t tokens = cu_seqlens.back();
  const int64_t count = tokens * shape.heads * shape.head_dim;
  std::mt19937_64 random(1);
  Batch batch{.cu_seqlens = cu_seqlens,
              .heads = shape.heads,
              .dim = shape.head_dim,
              .q = random_values(random, count),
              .k = random_values(random, count),
              .v = random_values(random, count),
              .out = std::vector<float>(count)};
  const auto view = [&](std::vector<float>& values) {
    return harrier::TensorView{.data = values.data(),
                               .dtype = harrier::DataType::kFloat32,
                               .shape = {tokens, shape.heads, shape.head_dim},
                               .strides = {}};
  };
  harrier::AttentionTensors tensors;
  tensors.q = view(batch.q);
  tensors.k = view(batch.k);
  tensors.v = view(batch.v);
  tensors.out = view(batch.out);
  tensors.cu_seqlens = cu_seqlens;
  kernel.run(tensors, {});
  const harrier::RunReport report = kernel.run(tensors, {});

  double compile_us = 0;
  for (const harrier::PassTime& step : kernel.compile_times()) compile_us += step.microseconds;
  double run_us = report.kernel_us;
  for (const harrier::PassTime& step : report.passes) run_us += step.microseconds;
  const auto pairs = static_cast<double>(
      harrier::count_visible_pairs(workload.pattern, shape, harrier::check_tensors(tensors, shape), {}));
  const auto tiles = static_cast<double>(report.tiles.empty + report.tiles.full + report.tiles.partial);
  const double error = error_of_some_rows(random, batch);

  fmt::print("{}\n", harrier::canonical_text(kernel.compilation().workload.pattern, shape));
  fmt::print("{} documents, {} tokens, longest {}\n", workload.batch, tokens, std::ranges::max(lengths));
  fmt::print("compile {:.1f} ms, run {:.1f} ms, {:.1f} useful GFLOP/s, {:.1f} % of tiles skipped\n", compile_us * 1e-3,
             run_us * 1e-3, 2e-3 * static_cast<double>(shape.head_dim + shape.value_dim) * pairs / run_us,
             100 * static_cast<double>(report.tiles.empty) / tiles);
  fmt::print("error of {} random rows against double precision: {:.1e} (at most {:.0e})\n", kCheckedRows, error,
             kTolerance);
  return error <= kTolerance ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: packed_documents FILE.attn\n");
    return 2;
  }
  try {
    return run(argv[1]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "packed_documents: {}\n", error.what());
    return 2;
  }
}
