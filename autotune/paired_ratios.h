// Ratios of times that were taken in turns, and how sure one may be of their median.
#pragma once

#include <cstdint>
#include <span>

namespace harrier::autotune {

/// A ratio of times: below 1 is faster.
struct RatioInterval {
  double median = 1;
  double low = 0;  // the interval's ends; (0, infinity) when there are too few ratios to say
  double high = 0;
  int64_t count = 0;
};

/// The median of the ratios and its bootstrap interval. The same ratios and the same seed give the same interval.
RatioInterval ratio_interval(std::span<const double> ratios, double confidence, uint64_t seed);

/// 0 for no values.
double median_of(std::span<const double> values);

}  // namespace harrier::autotune
