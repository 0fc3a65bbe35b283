#include "autotune/ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <random>

#include "autotune/candidate_text.h"

namespace harrier::autotune {
namespace {

using testing::HasSubstr;

const Silicon kHere{.key = "here", .capability = 90, .multiprocessors = 132, .l2_bytes = 50'000'000};
const Silicon kHalf{.key = "half", .capability = 90, .multiprocessors = 66, .l2_bytes = 25'000'000};
const Silicon kOther{.key = "other", .capability = 80, .multiprocessors = 108, .l2_bytes = 40'000'000};

Question question(int64_t length = 4096) {
  return {.silicon = kHere,
          .environment = "now",
          .lengths = sketch_of(FixedLength{length}, 8),
          .shape = {.heads = 12, .kv_heads = 12, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16},
          .family = CudaFamily::kSm90};
}

KnownTuning tuning(const Silicon& silicon, const std::string& environment, int64_t length) {
  return {.silicon = silicon,
          .environment = environment,
          .lengths = sketch_of(FixedLength{length}, 8),
          .choice = {.plan = {.stages = 3},
                     .schedule = CudaSchedule{.heads_per_group = 4, .split_tiles = 16, .split_capacity = 264}},
          .default_us = 120,
          .tuned_us = 100};
}

TEST(Ladder, EveryRungAnswersWhenThoseAboveItCannot) {
  std::vector<KnownTuning> tunings;
  const auto rung = [&] { return ask_ladder(question(), tunings).rung; };
  EXPECT_EQ(rung(), Rung::kDefault);
  tunings.push_back(tuning(kHalf, "now", 4096));
  EXPECT_EQ(rung(), Rung::kOtherSilicon);
  tunings.push_back(tuning(kHere, "now", 9000));
  EXPECT_EQ(rung(), Rung::kNearestLengths);
  tunings.push_back(tuning(kHere, "before", 4096));
  EXPECT_EQ(rung(), Rung::kOtherEnvironment);
  tunings.push_back(tuning(kHere, "now", 4100));
  EXPECT_EQ(rung(), Rung::kExact);
  tunings.push_back(tuning(kHere, "before", 4200));
  tunings.back().pinned = true;
  EXPECT_EQ(rung(), Rung::kPinned);
}

TEST(Ladder, NoRungIsSilent) {
  const std::vector<KnownTuning> tunings = {tuning(kHere, "now", 9000)};
  const LadderAnswer answer = ask_ladder(question(), tunings);
  ASSERT_EQ(answer.rungs.size(), 7);
  for (const RungReport& report : answer.rungs) {
    EXPECT_FALSE(report.why.empty()) << code_of(report.rung);
    EXPECT_EQ(report.answered, report.rung == answer.rung) << code_of(report.rung);
  }
  EXPECT_THAT(answer.reason, HasSubstr("100.0 us, the default 120.0 us"));
}

TEST(Ladder, WhatDoesNotFitIsPassedOver) {
  std::vector<KnownTuning> tunings = {tuning(kHere, "now", 4096), tuning(kHere, "now", 4096),
                                      tuning(kHere, "now", 4096), tuning(kHere, "now", 4096 * 64),
                                      tuning(kOther, "now", 4096)};
  tunings[0].choice.plan.family = CudaFamily::kSm80;
  tunings[1].choice.plan.stages = 100;                // shared memory
  tunings[2].choice.schedule->heads_per_group = 400;  // of 12
  EXPECT_EQ(ask_ladder(question(), tunings).rung, Rung::kDefault);
}

TEST(Ladder, NearestLengthsAreNearestInPowersOfTwo) {
  const std::vector<KnownTuning> tunings = {tuning(kHere, "now", 1024), tuning(kHere, "now", 12000),
                                            tuning(kHere, "now", 16000)};
  const LadderAnswer near = ask_ladder(question(), tunings);
  EXPECT_EQ(near.tuning, 1);
  EXPECT_GT(ask_ladder(question(), {{tunings[0]}}).regret, near.regret);
  EXPECT_EQ(ask_ladder(question(100'000), {{tunings[0]}}).rung, Rung::kDefault);
}

TEST(Ladder, SchedulesOfOtherGpusAreScaled) {
  const LadderAnswer answer = ask_ladder(question(), {{tuning(kHalf, "now", 4096)}});
  ASSERT_TRUE(answer.choice && answer.choice->schedule);
  EXPECT_EQ(*answer.choice->schedule, (CudaSchedule{.heads_per_group = 8, .split_tiles = 16, .split_capacity = 528}));
  KnownTuning all_heads = tuning(kHalf, "now", 4096);
  all_heads.choice.schedule->heads_per_group = 12;
  EXPECT_EQ(ask_ladder(question(), {{all_heads}}).choice->schedule->heads_per_group, 12);
}

TEST(Ladder, ModelIsBelievedOnlyBeyondItsDoubt) {
  const auto ask = [](double us) {
    return ask_ladder(question(), {},
                      [us] { return ModelAnswer{.choice = {.plan = {.stages = 3}}, .us = us, .default_us = 100}; });
  };
  EXPECT_EQ(ask(90).rung, Rung::kDefault);
  EXPECT_THAT(ask(90).rungs[5].why, HasSubstr("less than the 25 % that it may be wrong by"));
  EXPECT_EQ(ask(60).rung, Rung::kCostModel);
  EXPECT_EQ(ask(60).choice->plan.stages, 3);
  bool asked = false;
  const auto model = [&]() -> std::optional<ModelAnswer> {
    asked = true;
    return std::nullopt;
  };
  EXPECT_EQ(ask_ladder(question(), {{tuning(kHere, "now", 4096)}}, model).rung, Rung::kExact);
  EXPECT_FALSE(asked);
}

TEST(Ladder, OrderOfTuningsDoesNotMatter) {
  rc::check([] {
    std::vector<KnownTuning> tunings;
    const int count = *rc::gen::inRange(0, 12);
    for (int i = 0; i < count; ++i) {
      tunings.push_back(tuning(*rc::gen::element(kHere, kHalf, kOther),
                               *rc::gen::element(std::string("now"), std::string("before")),
                               *rc::gen::element<int64_t>(512, 4096, 4500, 9000)));
      tunings.back().choice.schedule->split_tiles = *rc::gen::inRange(1, 4);
      tunings.back().pinned = *rc::gen::inRange(0, 8) == 0;
    }
    const LadderAnswer answer = ask_ladder(question(), tunings);
    std::mt19937_64 random(*rc::gen::arbitrary<uint64_t>());
    std::ranges::shuffle(tunings, random);
    const LadderAnswer again = ask_ladder(question(), tunings);
    RC_ASSERT(again.rung == answer.rung);
    RC_ASSERT(again.choice == answer.choice);
    RC_ASSERT(again.regret == answer.regret);
  });
}

TEST(Ladder, RegretGrowsDownTheLadder) {
  double before = -1;
  for (const auto& tunings : {std::vector{tuning(kHere, "now", 4096)}, std::vector{tuning(kHere, "before", 4096)},
                              std::vector{tuning(kHere, "now", 9000)}, std::vector{tuning(kHalf, "now", 4096)}}) {
    const LadderAnswer answer = ask_ladder(question(), tunings);
    EXPECT_GT(answer.regret, before) << code_of(answer.rung);
    before = answer.regret;
  }
}

TEST(CandidateText, RoundTrips) {
  rc::check([] {
    CudaPlan plan;
    plan.family = *rc::gen::element(CudaFamily::kSm90, CudaFamily::kSm80);
    plan.consumers = *rc::gen::inRange(1, 4);
    plan.tile_k = *rc::gen::inRange(16, 257);
    plan.ping_pong = *rc::gen::arbitrary<bool>();
    plan.ctas_per_sm = *rc::gen::inRange(1, 4);
    plan.fold_scale = *rc::gen::arbitrary<bool>();
    plan.deterministic = *rc::gen::arbitrary<bool>();
    RC_ASSERT(plan_of(to_text(plan)) == plan);
    const CudaSchedule schedule{.heads_per_group = *rc::gen::inRange(1, 200),
                                .split_tiles = *rc::gen::inRange(0, 200),
                                .split_capacity = *rc::gen::inRange(0, 2000)};
    RC_ASSERT(schedule_of(to_text(schedule)) == schedule);
    const Choice with{.plan = plan, .schedule = schedule};
    const Choice without{.plan = plan};
    RC_ASSERT(choice_of(to_text(with)) == with);
    RC_ASSERT(choice_of(to_text(without)) == without);
  });
}

TEST(CandidateText, SaysDeterministicOnlyOfPlansThatAre) {
  EXPECT_EQ(to_text(CudaPlan{.deterministic = true}), to_text(CudaPlan{}) + " deterministic=1");
  EXPECT_FALSE(plan_of(to_text(CudaPlan{}) + " deterministic=0"));
  EXPECT_FALSE(plan_of(to_text(CudaPlan{}) + " deterministic=2"));
}

TEST(CandidateText, TakesNothingElse) {
  const std::string good = to_text(CudaPlan{});
  ASSERT_TRUE(plan_of(good));
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(plan_of(good.substr(0, i))) << i;
    std::string broken = good;
    broken[i] = '~';
    EXPECT_FALSE(plan_of(broken)) << broken;
  }
  EXPECT_FALSE(plan_of(good + " "));
  EXPECT_FALSE(plan_of("family=7" + good.substr(8)));
  EXPECT_FALSE(choice_of(good));
  EXPECT_FALSE(choice_of(good + "  schedule=default"));
  EXPECT_FALSE(choice_of("schedule=default"));
  EXPECT_FALSE(schedule_of("heads_per_group=01 split_tiles=1 split_capacity=1"));
  EXPECT_FALSE(schedule_of("heads_per_group=99999999999 split_tiles=1 split_capacity=1"));
}

TEST(LengthSketch, BucketsAreRoundedPowersOfTwo) {
  const LengthSketch fixed = sketch_of(FixedLength{4096}, 8);
  EXPECT_EQ(to_text(fixed), "batch=8 p10=4096 p50=4096 p90=4096 longest=4096");
  EXPECT_EQ(sketch_of_text(to_text(fixed)), fixed);
  EXPECT_FALSE(sketch_of_text("batch=8 p10=4096 p50=4096 p90=4096"));
  EXPECT_FALSE(sketch_of_text(to_text(fixed) + "0x"));
  EXPECT_EQ(bucket_of(fixed), "batch=3 p10=12 p50=12 p90=12 longest=12");
  EXPECT_EQ(bucket_of(sketch_of(FixedLength{5000}, 7)), bucket_of(fixed));
  EXPECT_NE(bucket_of(sketch_of(FixedLength{6000}, 8)), bucket_of(fixed));
  EXPECT_DOUBLE_EQ(distance(fixed, fixed), 0);
  EXPECT_NEAR(distance(fixed, sketch_of(FixedLength{8192}, 16)), 1, 1e-12);
  EXPECT_EQ(bucket_of(sketch_of(UniformLength{0, 0}, 1)), "batch=0 p10=0 p50=0 p90=0 longest=0");
}

}  // namespace
}  // namespace harrier::autotune
