// GPUs that are not as fast as their family's numbers say, and what timed launches tell of them.
#include "autotune/calibrate.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "autotune/cost_model.h"

namespace harrier::autotune {
namespace {

const DeviceModel kFamily = device_model({});

/// Launches that different units decide: head dim 128 products, head dim 32 exponents, few queries over many keys the
/// memory, one tile the launch itself.
struct Case {
  int64_t head_dim;
  int64_t rows;
  int64_t tiles;
  int64_t key_tokens;
  int consumers = 2;
};
constexpr Case kLong[] = {{128, 64, 64, 8192}, {64, 64, 64, 8192}, {64, 64, 64, 8192, 1}, {32, 64, 64, 8192}};
constexpr Case kOfMemory[] = {{128, 1, 512, 65536}, {64, 1, 512, 65536, 1}};
constexpr Case kShort[] = {{64, 1, 1, 128}, {128, 1, 1, 128}};

double model_us(const Case& launch, const DeviceModel& device) {
  const Shape shape{.heads = 16, .kv_heads = 16, .head_dim = launch.head_dim, .value_dim = launch.head_dim};
  const BatchRows rows{
      .heads = {std::vector<RowTiles>(static_cast<size_t>(launch.rows), {.full = launch.tiles, .partial = 0})},
      .key_tokens = launch.key_tokens};
  return launch_cost({.consumers = launch.consumers}, {.heads_per_group = 16, .split_tiles = 16, .split_capacity = 528},
                     shape, rows, device)
      .us;
}

/// The launches as a GPU of these rates would time them.
template <typename Cases>
std::vector<TimedLaunch> timed_on(const DeviceModel& gpu, const Cases& cases, double noise = 0, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<TimedLaunch> launches;
  for (const Case& launch : cases) {
    launches.push_back({.model_us = [&launch](const DeviceModel& device) { return model_us(launch, device); },
                        .us = model_us(launch, gpu) * std::exp(noise * normal(random))});
  }
  return launches;
}

DeviceModel gpu_with(const std::array<double, kRates>& factor) { return calibrated(kFamily, {.factor = factor}); }

/// The largest error of the model, as a fraction.
double worst_error(const RateCalibration& calibration, const DeviceModel& gpu) {
  double worst = 0;
  const auto look_at = [&](const auto& cases) {
    for (const Case& launch : cases) {
      const double ratio = model_us(launch, calibrated(kFamily, calibration)) / model_us(launch, gpu);
      worst = std::max(worst, std::abs(std::log(ratio)));
    }
  };
  look_at(kLong);
  look_at(kOfMemory);
  look_at(kShort);
  return worst;
}

TEST(Calibrate, ReadsTheTimesOfAGpuThatIsNotAsItsFamily) {
  const DeviceModel gpu = gpu_with({0.7, 0.8, 1.2, 0.5, 2});
  ASSERT_GT(worst_error({}, gpu), 0.4);
  RateCalibration known;
  for (uint64_t round = 1; round <= 4; ++round) {
    known = calibrate(known, kFamily, timed_on(gpu, kLong, 0.02, round));
    known = calibrate(known, kFamily, timed_on(gpu, kOfMemory, 0.02, round));
    known = calibrate(known, kFamily, timed_on(gpu, kShort, 0.02, round));
  }
  EXPECT_LT(worst_error(known, gpu), 0.08);
  EXPECT_EQ(known.measurements, 4 * 8);
}

TEST(Calibrate, LeavesWhatTheTimesDoNotDependOn) {
  const RateCalibration known = calibrate({}, kFamily, timed_on(gpu_with({0.6, 1, 1, 1, 3}), kLong));
  EXPECT_NEAR(known.factor[kTensor], 0.6, 0.1);
  EXPECT_NEAR(known.factor[kLaunch], 1, 0.02);
  EXPECT_LT(known.certainty[kLaunch], 0.1 * known.certainty[kTensor]);
}

TEST(Calibrate, RanksPlansByWhatTheGpuIsSlowAt) {
  // On the family's GPU the larger query tile is faster; on one whose L2 is fast, and whose products are slow, about
  // as fast: what the calibrated model says of their ratio is what the GPU does.
  const DeviceModel gpu = gpu_with({0.5, 1, 2, 1, 1});
  const RateCalibration known = calibrate({}, kFamily, timed_on(gpu, kLong));
  const auto ratio = [](const DeviceModel& device) { return model_us(kLong[2], device) / model_us(kLong[1], device); };
  EXPECT_LT(std::abs(ratio(calibrated(kFamily, known)) - ratio(gpu)), std::abs(ratio(kFamily) - ratio(gpu)));
}

TEST(Calibrate, OneOddTuningMovesLessTheMoreIsKnown) {
  const auto odd = timed_on(gpu_with({0.5, 0.5, 0.5, 0.5, 0.5}), kLong);
  RateCalibration known;
  for (int i = 0; i < 5; ++i) known = calibrate(known, kFamily, timed_on(kFamily, kLong));
  EXPECT_NEAR(known.factor[kTensor], 1, 1e-6);
  const RateCalibration fresh = calibrate({}, kFamily, odd);
  const RateCalibration after = calibrate(known, kFamily, odd);
  const auto moved = [](const RateCalibration& to) {
    return std::log(model_us(kLong[0], calibrated(kFamily, to)) / model_us(kLong[0], kFamily));
  };
  EXPECT_GT(moved(fresh), 0.5);  // of the 0.69 that the odd times say
  EXPECT_LT(moved(after), 0.75 * moved(fresh));
}

TEST(Calibrate, TimesThatAreNoneTellNothing) {
  const RateCalibration known{.factor = {1.1, 1, 1, 1, 1}, .certainty = {5, 0, 0, 0, 0}, .measurements = 3};
  EXPECT_EQ(calibrate(known, kFamily, {}), known);
  std::vector<TimedLaunch> launches = timed_on(kFamily, kShort);
  launches[0].us = 0;
  launches[1].us = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(calibrate(known, kFamily, launches), known);
}

TEST(Calibrate, AbsurdTimesStayWithinLimits) {
  for (const double scale : {1e-9, 1e9}) {
    std::vector<TimedLaunch> launches = timed_on(kFamily, kLong);
    for (TimedLaunch& launch : launches) launch.us *= scale;
    for (const double factor : calibrate({}, kFamily, launches).factor) {
      EXPECT_GE(factor, 0.25);
      EXPECT_LE(factor, 4);
    }
  }
}

RC_GTEST_PROP(RateCalibrationText, IsReadAsItWasWritten, ()) {
  RateCalibration calibration;
  for (size_t i = 0; i < kRates; ++i) {
    calibration.factor[i] = 0.25 + 3.75 * (*rc::gen::inRange(0, 1000)) / 1000.0;
    calibration.certainty[i] = *rc::gen::inRange(0, 100000) / 97.0;
  }
  calibration.measurements = *rc::gen::inRange(0, 100000);
  RC_ASSERT(calibration_of(to_text(calibration)) == std::optional(calibration));
}

TEST(RateCalibrationText, RefusesAnythingElse) {
  const std::string good = to_text(RateCalibration{});
  ASSERT_TRUE(calibration_of(good));
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(calibration_of(good.substr(0, size))) << size;
  for (const std::string& bad : {good + " ", " " + good, std::string("{}"), std::string("tensor=9:0")}) {
    EXPECT_FALSE(calibration_of(bad)) << bad;
  }
  std::string far = good;
  EXPECT_FALSE(calibration_of(far.replace(far.find("=1:"), 3, "=5:")));
}

}  // namespace
}  // namespace harrier::autotune
