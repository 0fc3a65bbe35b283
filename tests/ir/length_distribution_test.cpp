// Sampling and quantiles of every kind of length distribution.
#include "ir/length_distribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

constexpr uint64_t kSeed = 20260117;

std::vector<LengthDistribution> every_kind() {
  return {FixedLength{512}, UniformLength{.min = 3, .max = 9},
          LognormalLength{.mean = 1800, .sigma = 0.6, .min = 16, .max = 4096},
          HistogramLength{{{.length = 1024, .weight = 7}, {.length = 512, .weight = 3}}},
          TraceLength{.path = "t.csv", .lengths = {5, 1, 9, 1}}};
}

double mean_of(const std::vector<int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), 0.0) / static_cast<double>(lengths.size());
}

TEST(SampleLengths, TheSameSeedGivesTheSameLengths) {
  for (const LengthDistribution& lengths : every_kind()) {
    SCOPED_TRACE(print(lengths));
    EXPECT_EQ(sample_lengths(lengths, 100, kSeed), sample_lengths(lengths, 100, kSeed));
  }
  const LengthDistribution uniform = UniformLength{.min = 0, .max = 1 << 30};
  EXPECT_NE(sample_lengths(uniform, 8, 1), sample_lengths(uniform, 8, 2));
}

TEST(SampleLengths, DrawsAreTheSameOnEveryPlatform) {
  // SplitMix64 of seed 1234567 starts 6457827717110365317, 3203168211198807973, 9817491932198370423 (its reference
  // code); the fractions 0.350..., 0.173..., 0.532... of 1000 lengths follow.
  EXPECT_EQ(sample_lengths(UniformLength{.min = 1, .max = 1000}, 3, 1234567), (std::vector<int64_t>{351, 174, 533}));
}

TEST(SampleLengths, MeansAreThoseOfTheDistribution) {
  constexpr int64_t kCount = 40'000;
  EXPECT_EQ(mean_of(sample_lengths(FixedLength{512}, kCount, kSeed)), 512);
  EXPECT_NEAR(mean_of(sample_lengths(UniformLength{.min = 100, .max = 300}, kCount, kSeed)), 200, 2);
  EXPECT_NEAR(mean_of(sample_lengths(every_kind()[3], kCount, kSeed)), 0.3 * 512 + 0.7 * 1024, 6);
  const LognormalLength unclamped{.mean = 1800, .sigma = 0.6, .min = 0, .max = 1 << 30};
  EXPECT_NEAR(mean_of(sample_lengths(unclamped, kCount, kSeed)), 1800, 30);
}

TEST(SampleLengths, StayInsideTheirLimits) {
  const LognormalLength narrow{.mean = 1800, .sigma = 2, .min = 1000, .max = 2000};
  const std::vector<int64_t> lengths = sample_lengths(narrow, 10'000, kSeed);
  EXPECT_EQ(std::ranges::min(lengths), 1000);
  EXPECT_EQ(std::ranges::max(lengths), 2000);
}

TEST(SampleLengths, ATraceKeepsItsOrderAndStartsAnywhere) {
  const TraceLength trace{.path = "t.csv", .lengths = {1, 2, 3}};
  std::vector<bool> started(4);
  for (uint64_t seed = 0; seed < 64; ++seed) {
    SCOPED_TRACE(seed);
    const std::vector<int64_t> lengths = sample_lengths(trace, 5, seed);
    for (std::size_t i = 1; i < lengths.size(); ++i) EXPECT_EQ(lengths[i], lengths[i - 1] % 3 + 1);
    started[static_cast<std::size_t>(lengths[0])] = true;
  }
  EXPECT_EQ(started, (std::vector<bool>{false, true, true, true}));
}

TEST(SampleLengths, RefusesWhatItCannotDraw) {
  EXPECT_THROW(sample_lengths(TraceLength{.path = "t.csv"}, 3, kSeed), InvalidInput);
  EXPECT_THROW(sample_lengths(UniformLength{.min = 3, .max = 2}, 3, kSeed), InvalidInput);
  EXPECT_THROW(sample_lengths(FixedLength{3}, -1, kSeed), InvalidInput);
  EXPECT_TRUE(sample_lengths(FixedLength{3}, 0, kSeed).empty());
}

TEST(Quantile, OfDiscreteKindsIsExact) {
  EXPECT_EQ(quantile(FixedLength{512}, 0.3), 512);
  const LengthDistribution uniform = UniformLength{.min = 11, .max = 20};
  EXPECT_EQ(quantile(uniform, 0), 11);
  EXPECT_EQ(quantile(uniform, 0.1), 11);
  EXPECT_EQ(quantile(uniform, 0.11), 12);
  EXPECT_EQ(quantile(uniform, 0.5), 15);
  EXPECT_EQ(quantile(uniform, 1), 20);
  const LengthDistribution histogram = HistogramLength{{{.length = 1024, .weight = 6}, {.length = 512, .weight = 2}}};
  EXPECT_EQ(quantile(histogram, 0), 512);
  EXPECT_EQ(quantile(histogram, 0.25), 512);
  EXPECT_EQ(quantile(histogram, 0.26), 1024);
  EXPECT_EQ(quantile(histogram, 1), 1024);
  const LengthDistribution trace = TraceLength{.path = "t.csv", .lengths = {40, 10, 30, 20}};
  EXPECT_EQ(quantile(trace, 0), 10);
  EXPECT_EQ(quantile(trace, 0.5), 20);
  EXPECT_EQ(quantile(trace, 0.51), 30);
  EXPECT_EQ(quantile(trace, 1), 40);
}

TEST(Quantile, OfLognormalFollowsTheNormalDistribution) {
  const double sigma = 0.6;
  const LengthDistribution lengths = LognormalLength{.mean = 1800, .sigma = sigma, .min = 16, .max = 1 << 20};
  const double mu = std::log(1800.0) - 0.5 * sigma * sigma;
  EXPECT_EQ(quantile(lengths, 0.5), std::llround(std::exp(mu)));
  // 1.2815515655446004 is the normal distribution's 90 % point.
  EXPECT_EQ(quantile(lengths, 0.9), std::llround(std::exp(mu + sigma * 1.2815515655446004)));
  EXPECT_EQ(quantile(lengths, 0.1), std::llround(std::exp(mu - sigma * 1.2815515655446004)));
  EXPECT_EQ(quantile(lengths, 0), 16);
  EXPECT_EQ(quantile(lengths, 1), 1 << 20);
  EXPECT_EQ(quantile(LognormalLength{.mean = 99.6, .sigma = 0, .min = 1, .max = 4096}, 0.7), 100);
}

TEST(Quantile, AgreesWithSamples) {
  constexpr int64_t kCount = 20'000;
  for (const LengthDistribution& lengths : every_kind()) {
    SCOPED_TRACE(print(lengths));
    std::vector<int64_t> drawn = sample_lengths(lengths, kCount, kSeed);
    std::ranges::sort(drawn);
    for (const double p : {0.05, 0.35, 0.5, 0.65, 0.95}) {
      SCOPED_TRACE(p);
      const int64_t length = quantile(lengths, p);
      const auto up_to = std::ranges::upper_bound(drawn, length) - drawn.begin();
      const auto below = std::ranges::lower_bound(drawn, length) - drawn.begin();
      EXPECT_GE(static_cast<double>(up_to) / kCount, p - 0.015);
      EXPECT_LE(static_cast<double>(below) / kCount, p + 0.015);
    }
  }
}

TEST(Quantile, RefusesWhatIsNoFraction) {
  for (const double p : {-0.1, 1.1, std::nan("")}) EXPECT_THROW(quantile(FixedLength{3}, p), InvalidInput) << p;
  EXPECT_THROW(quantile(TraceLength{.path = "t.csv"}, 0.5), InvalidInput);
}

}  // namespace
}  // namespace harrier
