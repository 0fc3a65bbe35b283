#include "autotune/length_sketch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace harrier::autotune {
namespace {

double log2_of(int64_t count) { return std::log2(static_cast<double>(std::max<int64_t>(count, 1))); }

std::array<int64_t, 5> numbers_of(const LengthSketch& sketch) {
  return {sketch.batch, sketch.p10, sketch.p50, sketch.p90, sketch.longest};
}

template <typename Number>
std::string named(const std::array<Number, 5>& numbers) {
  return fmt::format("batch={} p10={} p50={} p90={} longest={}", numbers[0], numbers[1], numbers[2], numbers[3],
                     numbers[4]);
}

}  // namespace

LengthSketch sketch_of(const LengthDistribution& lengths, int64_t batch) {
  return {.batch = batch,
          .p10 = quantile(lengths, 0.1),
          .p50 = quantile(lengths, 0.5),
          .p90 = quantile(lengths, 0.9),
          .longest = quantile(lengths, 1)};
}

std::string bucket_of(const LengthSketch& sketch) {
  std::array<int64_t, 5> rounded{};
  std::ranges::transform(numbers_of(sketch), rounded.begin(),
                         [](int64_t count) { return std::llround(log2_of(count)); });
  return named(rounded);
}

std::string to_text(const LengthSketch& sketch) { return named(numbers_of(sketch)); }

std::optional<LengthSketch> sketch_of_text(const std::string& text) {
  LengthSketch sketch;
  int64_t* const numbers[] = {&sketch.batch, &sketch.p10, &sketch.p50, &sketch.p90, &sketch.longest};
  const char* next = text.data();
  const char* const end = text.data() + text.size();
  for (int64_t* number : numbers) {
    next = std::find(next, end, '=');
    if (next == end) return std::nullopt;
    next = std::from_chars(next + 1, end, *number).ptr;
  }
  return to_text(sketch) == text ? std::optional(sketch) : std::nullopt;
}

double distance(const LengthSketch& a, const LengthSketch& b) {
  const std::array<int64_t, 5> left = numbers_of(a);
  const std::array<int64_t, 5> right = numbers_of(b);
  double squares = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    const double apart = log2_of(left[i]) - log2_of(right[i]);
    squares += apart * apart;
  }
  return std::sqrt(squares / static_cast<double>(left.size()));
}

}  // namespace harrier::autotune
