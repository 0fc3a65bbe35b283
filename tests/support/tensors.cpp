#include "support/tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ir/error.h"

namespace harrier {
namespace {

/// What tells a 16-bit format: its fraction bits and its exponent's range.
struct SmallFloat {
  int fraction_bits;
  int exponent_bits;
};

constexpr SmallFloat kBFloat16Form{.fraction_bits = 7, .exponent_bits = 8};
constexpr SmallFloat kFloat16Form{.fraction_bits = 10, .exponent_bits = 5};

/// The bits of the nearest value of `form`, ties to even; too large becomes infinity.
uint16_t round_to(double value, SmallFloat form) {
  const int bias = (1 << (form.exponent_bits - 1)) - 1;
  const int infinity = ((1 << form.exponent_bits) - 1) << form.fraction_bits;
  const int sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | (1 << (form.fraction_bits - 1)));
  const double magnitude = std::fabs(value);
  if (std::isinf(value)) return static_cast<uint16_t>(sign | infinity);
  if (magnitude == 0.0) return static_cast<uint16_t>(sign);
  // The number's own binade, or the smallest normal one for subnormals; nearbyint rounds to even there.
  const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  const double steps = std::nearbyint(std::ldexp(magnitude, form.fraction_bits - exponent));
  // Adding the steps carries into the exponent field by itself when they round up to the next binade.
  const int64_t bits = (static_cast<int64_t>(exponent + bias - 1) << form.fraction_bits) + static_cast<int64_t>(steps);
  return static_cast<uint16_t>(sign | (bits > infinity ? infinity : static_cast<int>(bits)));
}

double widen(uint16_t bits, SmallFloat form) {
  const int bias = (1 << (form.exponent_bits - 1)) - 1;
  const int top = (1 << form.exponent_bits) - 1;
  const int exponent = (bits >> form.fraction_bits) & top;
  const int fraction = bits & ((1 << form.fraction_bits) - 1);
  double magnitude = 0;
  if (exponent == top) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, 1 - bias - form.fraction_bits);
  } else {
    magnitude = std::ldexp(fraction + (1 << form.fraction_bits), exponent - bias - form.fraction_bits);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

SmallFloat form_of(DataType dtype) { return dtype == DataType::kBFloat16 ? kBFloat16Form : kFloat16Form; }

}  // namespace

std::vector<double> random_values(std::mt19937_64& random, int64_t count, DataType dtype) {
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(random);
  return decode(encode(values, dtype), dtype);
}

std::vector<uint8_t> encode(const std::vector<double>& values, DataType dtype) {
  const size_t width = dtype == DataType::kFloat32 ? 4 : 2;
  std::vector<uint8_t> bytes(values.size() * width);
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DataType::kFloat32) {
      const auto single = static_cast<float>(values[i]);
      std::memcpy(&bytes[i * width], &single, width);
    } else {
      const uint16_t bits = round_to(values[i], form_of(dtype));
      std::memcpy(&bytes[i * width], &bits, width);
    }
  }
  return bytes;
}

std::vector<double> decode(const std::vector<uint8_t>& bytes, DataType dtype) {
  const size_t width = dtype == DataType::kFloat32 ? 4 : 2;
  std::vector<double> values(bytes.size() / width);
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DataType::kFloat32) {
      float single = 0;
      std::memcpy(&single, &bytes[i * width], width);
      values[i] = static_cast<double>(single);
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, &bytes[i * width], width);
      values[i] = widen(bits, form_of(dtype));
    }
  }
  return values;
}

double max_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  HARRIER_CHECK(actual.size() == expected.size(), "compared arrays differ in size");
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] == expected[i]) continue;  // infinities of one sign too
    const double error = std::fabs(actual[i] - expected[i]) / std::max(1.0, std::fabs(expected[i]));
    if (!std::isfinite(error)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace harrier
