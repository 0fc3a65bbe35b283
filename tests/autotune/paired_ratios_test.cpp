#include "autotune/paired_ratios.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace harrier::autotune {
namespace {

TEST(MedianOf, IsTheMiddle) {
  EXPECT_DOUBLE_EQ(median_of(std::vector<double>{}), 0);
  EXPECT_DOUBLE_EQ(median_of(std::vector<double>{3}), 3);
  EXPECT_DOUBLE_EQ(median_of(std::vector<double>{9, 1}), 5);
  EXPECT_DOUBLE_EQ(median_of(std::vector<double>{9, 1, 4}), 4);
}

TEST(RatioInterval, SaysNothingOfFewRatios) {
  const RatioInterval interval = ratio_interval(std::vector<double>{0.5, 0.5, 0.5, 0.5}, 0.95, 1);
  EXPECT_DOUBLE_EQ(interval.median, 0.5);
  EXPECT_DOUBLE_EQ(interval.low, 0);
  EXPECT_TRUE(std::isinf(interval.high));
}

// An interval of 95 % holds the true ratio in most of many samples. Of the median of 12, a bootstrap's holds it a
// little less often than it says.
TEST(RatioInterval, HoldsTheTruthAboutAsOftenAsItSays) {
  constexpr int kSamples = 400;
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  int held = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    std::vector<double> ratios;
    for (int i = 0; i < 12; ++i) ratios.push_back(0.9 * std::exp(0.02 * normal(random)));
    const RatioInterval interval = ratio_interval(ratios, 0.95, static_cast<uint64_t>(sample));
    held += interval.low <= 0.9 && 0.9 <= interval.high ? 1 : 0;
    EXPECT_LE(interval.low, interval.median);
    EXPECT_LE(interval.median, interval.high);
  }
  EXPECT_GT(held, kSamples * 88 / 100);
  EXPECT_LT(held, kSamples);
}

TEST(RatioInterval, IsTheSameForTheSameSeed) {
  const std::vector<double> ratios = {0.9, 0.95, 1.02, 0.97, 0.93, 0.99, 1.01};
  const RatioInterval first = ratio_interval(ratios, 0.95, 5);
  const RatioInterval second = ratio_interval(ratios, 0.95, 5);
  EXPECT_EQ(first.low, second.low);
  EXPECT_EQ(first.high, second.high);
  EXPECT_LT(first.high - first.low, ratio_interval(ratios, 0.99, 5).high - ratio_interval(ratios, 0.99, 5).low + 1e-12);
}

}  // namespace
}  // namespace harrier::autotune
