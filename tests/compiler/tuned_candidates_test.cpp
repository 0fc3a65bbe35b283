// Tunings in a store, and the candidates that exports make of them.
#include "compiler/export/tuned_candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "autotune/candidate_text.h"
#include "compiler/cuda/plan_space.h"
#include "compiler/cuda/tuning_store.h"
#include "store/tuning_rows.h"
#include "support/temporary_folder.h"

namespace harrier {
namespace {

cuda::DeviceFacts gpu(int multiprocessors = 132, int major = 9, int minor = 0) {
  cuda::DeviceFacts facts;
  facts.name = "GPU " + std::to_string(multiprocessors);
  facts.capability_major = major;
  facts.capability_minor = minor;
  facts.multiprocessors = multiprocessors;
  return facts;
}

Workload workload(int64_t length, int64_t batch = 1) {
  return {.name = "w",
          .shape = {.heads = 8, .kv_heads = 8, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16},
          .pattern = {.mask = causal()},
          .lengths = FixedLength{length},
          .batch = batch};
}

/// Plans of the space, which differ.
autotune::Choice choice(size_t place, CudaFamily family = CudaFamily::kSm90) {
  return {.plan = plan_space(workload(1024), family).at(place)};
}

class TunedCandidates : public testing::Test {
 protected:
  void SetUp() override { store_ = open_store({.folder = folder_.path()}); }
  void TearDown() override { store_.reset(); }

  /// A tuning in which the default took 100 us and each choice so many.
  void tune(const cuda::DeviceFacts& facts, const Workload& tuned,
            const std::vector<std::pair<autotune::Choice, double>>& times, int64_t at = 1,
            const std::string& environment = {}) {
    TuningContext context = tuning_context(facts, tuned);
    if (!environment.empty()) context.environment.key = environment;
    std::vector<MeasurementRow> rows;
    auto best = times.front();
    for (const auto& [tried, us] : times) {
      if (us < best.second) best = {tried, us};
      rows.push_back({.config = autotune::to_text(tried),
                      .session = std::to_string(at),
                      .rounds = 3,
                      .p50_us = us,
                      .log_ratio = std::log(us / 100),
                      .measured_at = at});
    }
    ASSERT_TRUE(put_measurements(*store_, context, rows));
    ASSERT_TRUE(put_decision(
        *store_, context,
        {.config = autotune::to_text(best.first), .default_us = 100, .tuned_us = best.second, .decided_at = at}));
  }

  ExportWorkload exported(const std::vector<std::string>& architectures = {"sm_90a"}) {
    std::vector<ExportWorkload> workloads = {{.workload = workload(64)}};
    taken_ = add_tuned_candidates(*store_, architectures, workloads);
    return workloads.front();
  }

  double us_of(const ExportWorkload& from, const autotune::Choice& wanted, const LengthBucket& bucket) const {
    const auto place = std::ranges::find(from.buckets, bucket);
    EXPECT_NE(place, from.buckets.end());
    for (const ExportCandidate& candidate : from.candidates) {
      if (candidate.plan != wanted.plan || candidate.schedule != wanted.schedule) continue;
      return candidate.microseconds.at(static_cast<size_t>(place - from.buckets.begin()));
    }
    return -1;
  }

  const test::TemporaryFolder folder_;
  StoreHandle store_;
  std::vector<TunedExport> taken_;
};

constexpr LengthBucket kShort{.query_length = 128, .key_length = 128, .batch_heads = 8};
constexpr LengthBucket kLong{.query_length = 8192, .key_length = 8192, .batch_heads = 32};

TEST_F(TunedCandidates, AreThoseOfEveryLengthThatWasTuned) {
  tune(gpu(), workload(128), {{choice(1), 100}, {choice(2), 80}});
  tune(gpu(), workload(8192, 4), {{choice(1), 100}, {choice(3), 90}, {choice(2), 130}});
  const ExportWorkload found = exported();
  EXPECT_EQ(found.buckets.size(), 2);
  EXPECT_EQ(found.candidates.size(), 3);
  EXPECT_NEAR(us_of(found, choice(2), kShort), 80, 1e-9);
  EXPECT_NEAR(us_of(found, choice(2), kLong), 130, 1e-9);
  EXPECT_NEAR(us_of(found, choice(3), kLong), 90, 1e-9);
  EXPECT_TRUE(std::isinf(us_of(found, choice(3), kShort))) << "was not measured there";
  ASSERT_EQ(taken_.size(), 1);
  EXPECT_EQ(taken_[0].device, "GPU 132");
  EXPECT_EQ(taken_[0].lengths, 2);
  EXPECT_EQ(taken_[0].candidates, 3);
  EXPECT_FALSE(taken_[0].of_other_version);
}

TEST_F(TunedCandidates, OfAnotherPatternOrArchitectureAreNone) {
  Workload other = workload(128);
  other.pattern.mask = window(10, 0);
  tune(gpu(), other, {{choice(1), 100}});
  tune(gpu(108, 8, 0), workload(128), {{choice(1, CudaFamily::kSm80), 100}});
  EXPECT_TRUE(exported({"sm_90a", "compute_80"}).candidates.empty());
  EXPECT_TRUE(taken_.empty());
}

TEST_F(TunedCandidates, OfSeveralGpusAreOfTheOneThatWasTunedMost) {
  tune(gpu(114), workload(128), {{choice(1), 100}, {choice(2), 70}}, 9);
  tune(gpu(132), workload(128), {{choice(1), 100}, {choice(2), 80}});
  tune(gpu(132), workload(8192, 4), {{choice(1), 100}});
  EXPECT_NEAR(us_of(exported(), choice(2), kShort), 80, 1e-9);
  EXPECT_EQ(taken_.at(0).device, "GPU 132");
}

TEST_F(TunedCandidates, OfThisVersionComeFirst) {
  tune(gpu(), workload(128), {{choice(2), 70}}, 1, "kernels:old");
  EXPECT_NEAR(us_of(exported(), choice(2), kShort), 70, 1e-9);
  EXPECT_TRUE(taken_.at(0).of_other_version);
  tune(gpu(), workload(128), {{choice(2), 80}}, 2);
  EXPECT_NEAR(us_of(exported(), choice(2), kShort), 80, 1e-9);
  EXPECT_FALSE(taken_.at(0).of_other_version);
  tune(gpu(), workload(128), {{choice(2), 85}}, 3);
  EXPECT_NEAR(us_of(exported(), choice(2), kShort), 85, 1e-9) << "the latest";
}

TEST_F(TunedCandidates, APinStandsAloneAtItsLengths) {
  tune(gpu(), workload(128), {{choice(1), 100}, {choice(2), 80}});
  tune(gpu(), workload(8192, 4), {{choice(1), 100}, {choice(3), 90}});
  pin_choice(*store_, gpu(), workload(128), choice(1), 5);
  const ExportWorkload found = exported();
  EXPECT_FALSE(std::isinf(us_of(found, choice(1), kShort)));
  EXPECT_EQ(us_of(found, choice(2), kShort), -1) << "no candidate any more";
  EXPECT_NEAR(us_of(found, choice(3), kLong), 90, 1e-9);
}

TEST_F(TunedCandidates, LengthsTunedOnOneArchitectureTakeTheNearestTimesOfAnother) {
  tune(gpu(), workload(128), {{choice(1), 100}});
  tune(gpu(108, 8, 0), workload(8192, 4), {{choice(1, CudaFamily::kSm80), 50}, {choice(2, CudaFamily::kSm80), 40}});
  const ExportWorkload found = exported({"sm_80", "sm_90a"});
  EXPECT_EQ(found.buckets.size(), 2);
  EXPECT_NEAR(us_of(found, choice(1), kLong), 100, 1e-9);
  EXPECT_NEAR(us_of(found, choice(2, CudaFamily::kSm80), kShort), 40, 1e-9);
  EXPECT_EQ(taken_.size(), 2);
}

TEST_F(TunedCandidates, WhatDoesNotFitIsPassedOver) {
  autotune::Choice uneven = choice(1);
  uneven.plan.tile_k = 72;
  tune(gpu(), workload(128), {{uneven, 50}});
  EXPECT_TRUE(exported().candidates.empty());
}

}  // namespace
}  // namespace harrier
