// Tunings that are kept, and kernels that take them.
#include "compiler/cuda/tuning_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "compiler/cuda/cuda_bound.h"
#include "compiler/cuda/plan_space.h"
#include "compiler/cuda/tune_bench.h"
#include "store/store.h"
#include "support/temporary_folder.h"
#include "test_gpu.h"

namespace harrier {
namespace {

const TuningRecord kRecord{.session = "s", .effort = "quick", .driver = "1", .at = 5};

class TuningStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = open_store({.folder = folder_.path()});
    ASSERT_EQ(store_->state(), StoreState::kReadWrite);
    workload_ = test::workload_of(causal(), test::shape_of(2, 2, 64));
    workload_.lengths = FixedLength{100};
  }
  void TearDown() override { store_.reset(); }

  const cuda::DeviceFacts& facts() const { return test::gpu().device->facts(); }

  /// The second plan of the space under a schedule that no rule would choose.
  autotune::Choice other_choice() const {
    CudaPlan plan = compile_cuda(workload_, test::gpu()).compilation().plan;
    plan.stages = plan.stages == 2 ? 3 : 2;
    verify(plan, workload_.shape);
    return {.plan = plan, .schedule = CudaSchedule{.heads_per_group = 1, .split_tiles = 7, .split_capacity = 12}};
  }

  Tuning tuning_of(const autotune::Choice& winner) const {
    Tuning tuning;
    tuning.workload = workload_;
    tuning.winner = 1;
    tuning.default_us = 100;
    tuning.tuned_us = 80;
    tuning.ratio = {.median = 0.8, .low = 0.79, .high = 0.82, .count = 12};
    for (const autotune::Choice& choice : {autotune::Choice{.plan = {}}, winner}) {
      TunedCandidate candidate{.choice = choice, .predicted_us = 90, .trial = {}};
      candidate.trial.status = autotune::TrialStatus::kFinalist;
      candidate.trial.us = {{81, 80, 79}};
      tuning.candidates.push_back(candidate);
    }
    return tuning;
  }

  const test::TemporaryFolder folder_;
  StoreHandle store_;
  Workload workload_;
};

TEST_F(TuningStoreTest, WhatWasLearnedOfTheGpuIsFoundAgain) {
  EXPECT_EQ(known_calibration(*store_, facts()), autotune::RateCalibration{});
  Tuning tuning = tuning_of(other_choice());
  tuning.calibration = {.factor = {0.9, 1.1, 1, 1, 2}, .certainty = {3, 1, 0, 0, 0.5}, .measurements = 7};
  ASSERT_TRUE(save_tuning(*store_, tuning_context(facts(), workload_), tuning, kRecord));
  EXPECT_EQ(known_calibration(*store_, facts()), tuning.calibration);
  const autotune::DeviceModel family = device_model_of(facts());
  const autotune::DeviceModel learned = device_model_of(facts(), tuning.calibration);
  EXPECT_DOUBLE_EQ(learned.flops_per_clock, 0.9 * family.flops_per_clock);
  EXPECT_DOUBLE_EQ(learned.calibration.launch_us, 2 * family.calibration.launch_us);
  // What another version wrote there is nothing.
  put_device(*store_, {.silicon_key = cuda::silicon_key(facts()), .calibration = "{\"time_factor\": 1.2}"});
  EXPECT_EQ(known_calibration(*store_, facts()), autotune::RateCalibration{});
}

TEST_F(TuningStoreTest, WhatIsSavedIsFound) {
  const autotune::Choice choice = other_choice();
  const TuningContext context = tuning_context(facts(), workload_);
  EXPECT_EQ(answer_from_store(*store_, facts(), workload_).rung, autotune::Rung::kDefault);
  ASSERT_TRUE(save_tuning(*store_, context, tuning_of(choice), kRecord));
  EXPECT_EQ(decided_choice(*store_, context), choice);
  const autotune::LadderAnswer answer = answer_from_store(*store_, facts(), workload_);
  EXPECT_EQ(answer.rung, autotune::Rung::kExact);
  EXPECT_EQ(answer.choice, choice);
  const std::vector<FoundMeasurement> rows = find_measurements(*store_, {});
  ASSERT_EQ(rows.size(), 2);
  EXPECT_DOUBLE_EQ(rows[0].measurement.p50_us, 80);

  Workload other = workload_;
  other.lengths = FixedLength{260};
  EXPECT_EQ(answer_from_store(*store_, facts(), other).rung, autotune::Rung::kNearestLengths);
  other.pattern.mask = window(9, 0);
  EXPECT_EQ(answer_from_store(*store_, facts(), other).rung, autotune::Rung::kDefault);
  cuda::DeviceFacts half = facts();
  half.multiprocessors *= 2;
  const autotune::LadderAnswer elsewhere = answer_from_store(*store_, half, workload_);
  EXPECT_EQ(elsewhere.rung, autotune::Rung::kOtherSilicon);
  EXPECT_EQ(elsewhere.choice->schedule->split_capacity, 24);
}

TEST_F(TuningStoreTest, KernelsTakeTheTunedPlanAndSchedule) {
  const autotune::Choice choice = other_choice();
  ASSERT_TRUE(save_tuning(*store_, tuning_context(facts(), workload_), tuning_of(choice), kRecord));
  const CudaKernel kernel = compile_cuda(workload_, test::gpu(), {.store = store_});
  EXPECT_EQ(kernel.compilation().plan, choice.plan);
  const CudaKernel untuned = compile_cuda(workload_, test::gpu(), {.store = store_, .use_tunings = false});
  EXPECT_NE(untuned.compilation().plan, choice.plan);
  const CudaKernel own = compile_cuda(workload_, test::gpu(), {.plan = untuned.compilation().plan, .store = store_});
  EXPECT_EQ(own.compilation().plan, untuned.compilation().plan);

  // The schedule is for lengths about as long as the tuned ones; elsewhere the rule is better.
  const std::vector<LengthDraw> draws = {{.geometry = packed_geometry({100}, {100}), .bindings = {}},
                                         {.geometry = packed_geometry({30}, {30}), .bindings = {}}};
  TuneBench bench(test::gpu(), workload_.shape, draws, 1);
  EXPECT_EQ(bench.prepare(kernel, std::nullopt, 0).schedule(), *choice.schedule);
  EXPECT_NE(bench.prepare(kernel, std::nullopt, 1).schedule(), *choice.schedule);
  EXPECT_NE(bench.prepare(untuned, std::nullopt, 0).schedule(), *choice.schedule);

  CudaCompiler compiler(test::gpu(), {.store = store_});
  EXPECT_EQ(compiler.compile(workload_).compilation().plan, choice.plan);
}

TEST_F(TuningStoreTest, GradientsHaveTuningsOfTheirOwn) {
  ASSERT_TRUE(save_tuning(*store_, tuning_context(facts(), workload_), tuning_of(other_choice()), kRecord));
  Workload backward = workload_;
  backward.shape.direction = Direction::kBackward;
  EXPECT_EQ(answer_from_store(*store_, facts(), backward).rung, autotune::Rung::kDefault);

  const std::vector<CudaPlan> plans = plan_space(backward, CudaFamily::kSm90);
  ASSERT_GT(plans.size(), 1);
  const autotune::Choice choice{.plan = plans[1],
                                .schedule = CudaSchedule{.heads_per_group = 1, .split_tiles = 7, .split_capacity = 12}};
  ASSERT_TRUE(save_tuning(*store_, tuning_context(facts(), backward), tuning_of(choice), kRecord));
  EXPECT_EQ(answer_from_store(*store_, facts(), backward).choice, choice);
  const CudaKernel kernel = compile_cuda(backward, test::gpu(), {.store = store_});
  EXPECT_EQ(kernel.compilation().plan, choice.plan);
  EXPECT_EQ(kernel.bind({}, packed_geometry({100}))->schedule, *choice.schedule);
  EXPECT_EQ(answer_from_store(*store_, facts(), workload_).choice, other_choice());
}

TEST_F(TuningStoreTest, TrialsThatWereNotSurvivedAreInQuarantine) {
  const TuningContext context = tuning_context(facts(), workload_);
  const autotune::Choice choice{.plan = {}};
  EXPECT_FALSE(is_quarantined(*store_, context, choice, 1000));
  begin_trial(*store_, context, choice, 1000);
  EXPECT_TRUE(is_quarantined(*store_, context, choice, 1001));
  EXPECT_FALSE(is_quarantined(*store_, context, {.plan = {.stages = 3}}, 1001));
  EXPECT_FALSE(is_quarantined(*store_, context, choice, 1000 + 40 * 24 * 3600)) << "it ends some day";
  end_trial(*store_, context, choice);
  EXPECT_FALSE(is_quarantined(*store_, context, choice, 1001));
}

}  // namespace
}  // namespace harrier
