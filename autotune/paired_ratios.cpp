#include "autotune/paired_ratios.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace harrier::autotune {
namespace {

/// Below that a bootstrap says more than it knows.
constexpr int64_t kFewestRatios = 5;
constexpr int kResamples = 1000;

/// The middle of `values`, which are reordered.
double median_in_place(std::vector<double>& values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace

double median_of(std::span<const double> values) {
  if (values.empty()) return 0;
  std::vector<double> copy(values.begin(), values.end());
  return median_in_place(copy);
}

RatioInterval ratio_interval(std::span<const double> ratios, double confidence, uint64_t seed) {
  RatioInterval interval{.median = 1, .low = 0, .high = std::numeric_limits<double>::infinity(), .count = 0};
  interval.count = std::ssize(ratios);
  if (ratios.empty()) return interval;
  std::vector<double> logs;
  for (const double ratio : ratios) logs.push_back(std::log(ratio));
  interval.median = std::exp(median_of(logs));
  if (interval.count < kFewestRatios) return interval;
  std::mt19937_64 random(seed);
  std::vector<double> medians;
  std::vector<double> drawn(logs.size());
  for (int i = 0; i < kResamples; ++i) {
    for (double& value : drawn) value = logs[random() % logs.size()];
    medians.push_back(median_in_place(drawn));
  }
  std::ranges::sort(medians);
  const double tail = (1 - confidence) / 2;
  const auto at = [&](double fraction) {
    return medians[static_cast<size_t>(std::clamp(fraction, 0.0, 1.0) * (kResamples - 1))];
  };
  interval.low = std::exp(at(tail));
  interval.high = std::exp(at(1 - tail));
  return interval;
}

}  // namespace harrier::autotune
