#include "cli/run_output.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cli/convert.h"
#include "ir/error.h"

namespace harrier {
namespace {

float float_at(const NpyArray& array, int64_t index) {
  float value;
  std::memcpy(&value, array.bytes.data() + index * static_cast<int64_t>(sizeof(float)), sizeof(float));
  return value;
}

double error_of(double actual, double expected) {
  if (actual == expected || (std::isnan(actual) && std::isnan(expected))) return 0;
  const double error = std::abs(actual - expected) / std::max(1.0, std::abs(expected));
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

std::vector<int64_t> position_of(int64_t index, const std::vector<int64_t>& shape) {
  std::vector<int64_t> position(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    position[i] = index % shape[i];
    index /= shape[i];
  }
  return position;
}

}  // namespace

NpyArray read_output_like(const std::vector<int64_t>& shape, const std::string& option, const std::string& path) {
  NpyArray file = read_npy(path);
  if (file.shape != shape) {
    throw InvalidInput(fmt::format("{} {}: shape ({}) is not the output's ({}): name a file of that shape", option,
                                   path, fmt::join(file.shape, ", "), fmt::join(shape, ", ")));
  }
  return in_dtype(std::move(file), DataType::kFloat32, fmt::format("{} {}", option, path));
}

void keep_hidden_rows(NpyArray& out, const NpyArray& lse, const NpyArray& earlier) {
  const int64_t row_bytes = out.shape.back() * static_cast<int64_t>(sizeof(float));
  const int64_t rows = element_count(lse.shape);
  for (int64_t row = 0; row < rows; ++row) {
    if (float_at(lse, row) != -std::numeric_limits<float>::infinity()) continue;
    std::memcpy(out.bytes.data() + row * row_bytes, earlier.bytes.data() + row * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

Comparison compare(const NpyArray& out, const NpyArray& expected) {
  const int64_t count = element_count(out.shape);
  Comparison comparison;
  int64_t worst = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double error = error_of(float_at(out, i), float_at(expected, i));
    if (error <= comparison.max_error) continue;
    comparison.max_error = error;
    worst = i;
  }
  if (count > 0) comparison.at = position_of(worst, out.shape);
  return comparison;
}

}  // namespace harrier
