// The tuner on a GPU: candidates really compile, run and are compared; what time they take is made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "compiler/cuda/sampled_reference.h"
#include "compiler/cuda/tune_bench.h"
#include "compiler/cuda/tune_cuda.h"
#include "compiler/passes/lower_pattern.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using testing::HasSubstr;

LengthDraw draw_of(const std::vector<int64_t>& lengths) {
  return {.geometry = packed_geometry(lengths, lengths), .bindings = {}};
}

/// A clock that only moves when it is looked at, and times by what `us_of` says.
TuneOptions options_with(std::function<double(const autotune::Choice&, size_t)> us_of) {
  TuneOptions options;
  options.most_codes = 2;
  options.compile_threads = 1;
  options.now = [seconds = 0.0]() mutable { return seconds += 1e-4; };
  options.timed_us = std::move(us_of);
  return options;
}

Workload small_workload() { return test::workload_of(causal(), test::shape_of(2, 2, 64)); }

TEST(TuneCuda, TakesThePlanThatIsFaster) {
  const Workload workload = small_workload();
  std::optional<CudaPlan> default_plan;
  const TuneOptions options = options_with([&](const autotune::Choice& choice, size_t) {
    if (!default_plan) default_plan = choice.plan;  // the default is timed first
    return choice.plan == *default_plan ? 100.0 : 80.0;
  });
  const Tuning tuning = tune_cuda(workload, {draw_of({70, 40})}, test::gpu(), options);
  EXPECT_NE(tuning.candidates[tuning.winner].choice.plan, *default_plan);
  EXPECT_DOUBLE_EQ(tuning.default_us, 100);
  EXPECT_NEAR(tuning.tuned_us, 80, 1e-6);
  EXPECT_FALSE(tuning.out_of_time);
  ASSERT_TRUE(tuning.reference_error);
  EXPECT_LT(*tuning.reference_error, 0.01);
  // One of each plan that was timed; a batch so small is all launch, and that took longer than the model knew.
  EXPECT_EQ(tuning.calibration.measurements, 2);
  EXPECT_GT(tuning.calibration.factor[autotune::kLaunch], 1.2);
  EXPECT_DOUBLE_EQ(tuning.useful_flops, 4.0 * 64 * 2 * (70 * 71 / 2 + 40 * 41 / 2));
}

TEST(TuneCuda, KeepsTheDefaultWhereNothingIsFaster) {
  const Tuning tuning = tune_cuda(small_workload(), {draw_of({70, 40})}, test::gpu(),
                                  options_with([](const autotune::Choice&, size_t) { return 50.0; }));
  EXPECT_EQ(tuning.winner, 0);
  EXPECT_EQ(tuning.candidates[0].trial.status, autotune::TrialStatus::kFinalist);
  // Schedules of what was compiled were tried too, and more codes than two were not.
  int schedules = 0;
  std::set<std::string> plans;
  for (const TunedCandidate& candidate : tuning.candidates) {
    if (candidate.trial.us.front().empty()) continue;
    plans.insert(autotune::to_text(candidate.choice.plan));
    schedules += candidate.choice.schedule ? 1 : 0;
  }
  EXPECT_LE(plans.size(), 2);
  EXPECT_GT(schedules, 0);
}

TEST(TuneCuda, SchedulesAreCandidates) {
  const TuneOptions options = options_with([](const autotune::Choice& choice, size_t draw) {
    const bool one_head = choice.schedule && choice.schedule->heads_per_group == 1;
    return (one_head ? 70.0 : 100.0) * static_cast<double>(draw + 1);
  });
  const Tuning tuning = tune_cuda(small_workload(), {draw_of({70, 40}), draw_of({50})}, test::gpu(), options);
  ASSERT_TRUE(tuning.candidates[tuning.winner].choice.schedule);
  EXPECT_EQ(tuning.candidates[tuning.winner].choice.schedule->heads_per_group, 1);
  EXPECT_DOUBLE_EQ(tuning.default_us, 150);  // of one draw, on average
}

TEST(TuneCuda, QuarantinedChoicesAreNotRunAndOthersAreTold) {
  const Workload workload = small_workload();
  const Tuning before = tune_cuda(workload, {draw_of({60})}, test::gpu(),
                                  options_with([](const autotune::Choice&, size_t) { return 50.0; }));
  const auto other = std::ranges::find_if(before.candidates, [&](const TunedCandidate& candidate) {
    return candidate.choice.plan == before.candidates[0].choice.plan && candidate.choice.schedule;
  });
  ASSERT_NE(other, before.candidates.end());
  std::vector<autotune::Choice> begun;
  std::vector<autotune::Choice> survived;
  TuneOptions options = options_with([&](const autotune::Choice& choice, size_t) {
    EXPECT_NE(choice, other->choice);
    return 50.0;
  });
  options.is_quarantined = [&](const autotune::Choice& choice) { return choice == other->choice; };
  options.begin = [&](const autotune::Choice& choice) { begun.push_back(choice); };
  options.survived = [&](const autotune::Choice& choice) { survived.push_back(choice); };
  tune_cuda(workload, {draw_of({60})}, test::gpu(), options);
  EXPECT_EQ(begun, survived);
  EXPECT_FALSE(begun.empty());
}

TEST(TuneCuda, RefusesToTuneForNothing) {
  const auto message = [](const std::vector<LengthDraw>& draws) {
    try {
      tune_cuda(small_workload(), draws, test::gpu());
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({}), HasSubstr("0 draws"));
  EXPECT_THAT(message({draw_of({0})}), HasSubstr("0 tokens"));
}

Workload small_backward(int64_t kv_heads) {
  Workload workload = test::workload_of(causal(), test::shape_of(2, kv_heads, 64));
  workload.shape.direction = Direction::kBackward;
  return workload;
}

TEST(TuneCuda, TunesGradientsToo) {
  std::optional<CudaPlan> default_plan;
  const TuneOptions options = options_with([&](const autotune::Choice& choice, size_t draw) {
    if (!default_plan) default_plan = choice.plan;
    return (choice.plan == *default_plan ? 100.0 : 80.0) * static_cast<double>(draw + 1);
  });
  const Tuning tuning = tune_cuda(small_backward(1), {draw_of({70, 40}), draw_of({50})}, test::gpu(), options);
  EXPECT_EQ(tuning.candidates.front().choice.plan, *default_plan);
  EXPECT_NE(tuning.candidates[tuning.winner].choice.plan, *default_plan);
  EXPECT_DOUBLE_EQ(tuning.default_us, 150);
  EXPECT_NEAR(tuning.tuned_us, 120, 1e-6);
  ASSERT_TRUE(tuning.reference_error);
  EXPECT_GT(*tuning.reference_error, 0);
  EXPECT_LT(*tuning.reference_error, 0.01);
  EXPECT_DOUBLE_EQ(tuning.useful_flops, 10.0 * 64 * 2 * (70 * 71 + 40 * 41 + 50 * 51) / 2 / 2);
  EXPECT_DOUBLE_EQ(tuning.least_bytes, 2.0 * (2 + 1) * (64 + 64) * 2 * (110 + 50) / 2);
  EXPECT_GT(tuning.calibration.measurements, 0);
}

TEST(SampledReference, AgreesWithTheKernelAndSeesMistakes) {
  Workload workload = test::workload_of(window(30, 0) | sink(2), test::shape_of(2, 1, 64, 32));
  workload.pattern.score.softcap = 5;
  workload.shape.dtype = DataType::kFloat16;
  const std::vector<LengthDraw> draws = {draw_of({70, 33})};
  const CudaKernel kernel = compile_cuda(workload, test::gpu());
  TuneBench bench(test::gpu(), workload.shape, draws, 3);
  const SampledRows rows = bench.sample(bench.prepare(kernel, std::nullopt, 0), 0).front();
  ASSERT_FALSE(rows.tokens.empty());
  const auto error_under = [&](const Workload& assumed) {
    const BoundPattern bound =
        bind(assumed.pattern, assumed.shape, lower_pattern(assumed.pattern, assumed.shape), draws[0].geometry, {});
    std::vector<float> reference;
    for (const int64_t token : rows.tokens) {
      const bool first = token < 70;
      const TuneBench::HostTensors inputs = bench.inputs({token}, first ? 0 : 70, first ? 70 : 33);
      const std::vector<float> out = sampled_reference(assumed, bound, draws[0].geometry,
                                                       {.batch = first ? 0 : 1,
                                                        .query = first ? token : token - 70,
                                                        .q = inputs.q.data(),
                                                        .k = inputs.k.data(),
                                                        .v = inputs.v.data()});
      reference.insert(reference.end(), out.begin(), out.end());
    }
    return relative_error(rows.values, reference);
  };
  EXPECT_LT(error_under(workload), 0.005);
  Workload other = workload;
  other.pattern.mask = window(29, 0) | sink(2);
  EXPECT_GT(error_under(other), 0.02);
  other = workload;
  other.pattern.score.softcap = {};
  EXPECT_GT(error_under(other), 0.02);
}

TEST(SampledGradients, AgreeWithTheKernelAndSeeMistakes) {
  Workload workload = small_backward(1);
  workload.pattern.mask = window(30, 0) | sink(2);
  workload.pattern.score.softcap = 5;
  const std::vector<LengthDraw> draws = {draw_of({33, 70})};
  Workload forward = workload;
  forward.shape.direction = Direction::kForward;
  TuneBench bench(test::gpu(), workload.shape, draws, 3, compile_cuda(forward, test::gpu()));
  const CudaKernel kernel = compile_cuda(workload, test::gpu());
  const std::vector<SampledRows> rows = bench.sample(bench.prepare(kernel, std::nullopt, 0), 0);
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0].tokens, rows[1].tokens);

  // Of the second sequence: d_q of both heads, then d_k and d_v.
  const Sequence& sequence = draws[0].geometry.sequences[1];
  std::vector<int64_t> places;
  std::vector<std::vector<float>> computed(3);
  for (size_t i = 0; i < rows[0].tokens.size(); ++i) {
    if (rows[0].tokens[i] < sequence.query_token) continue;
    places.push_back(rows[0].tokens[i] - sequence.query_token);
    for (size_t tensor = 0; tensor < 3; ++tensor) {
      const int64_t size = tensor == 0 ? 128 : 64;
      const auto row = rows[tensor].values.begin() + static_cast<std::ptrdiff_t>(i) * size;
      computed[tensor].insert(computed[tensor].end(), row, row + size);
    }
  }
  const TuneBench::GradientTensors inputs = bench.gradient_inputs(0, sequence, 0);
  const auto errors_under = [&](const Workload& assumed) {
    const BoundPattern bound =
        bind(assumed.pattern, assumed.shape, lower_pattern(assumed.pattern, assumed.shape), draws[0].geometry, {});
    const SampledGradients reference = sampled_gradients(assumed, bound, draws[0].geometry,
                                                         {.batch = 1,
                                                          .kv_head = 0,
                                                          .q = inputs.q.data(),
                                                          .out = inputs.out.data(),
                                                          .d_out = inputs.d_out.data(),
                                                          .lse = inputs.lse.data(),
                                                          .k = inputs.k.data(),
                                                          .v = inputs.v.data()},
                                                         places, places);
    return std::vector<double>{relative_error(computed[0], reference.d_q), relative_error(computed[1], reference.d_k),
                               relative_error(computed[2], reference.d_v)};
  };
  EXPECT_THAT(errors_under(workload), testing::Each(testing::Lt(0.01)));
  Workload other = workload;
  other.pattern.mask = window(29, 0) | sink(2);
  EXPECT_THAT(errors_under(other), testing::Each(testing::Gt(0.02)));
  other = workload;
  other.pattern.score.softcap = {};
  EXPECT_THAT(errors_under(other), testing::Each(testing::Gt(0.02)));
}

TEST(RelativeError, IsInfiniteForNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(relative_error({1, 2}, {1, 2}), 0);
  EXPECT_NEAR(relative_error({1, 2.2F}, {1, 2}), 0.2 / std::sqrt(5), 1e-6);
  EXPECT_TRUE(std::isinf(relative_error({1, nan}, {1, 2})));
  EXPECT_TRUE(std::isinf(relative_error({1}, {1, 2})));
  EXPECT_EQ(relative_error({0, 0}, {0, 0}), 0);
}

}  // namespace
}  // namespace harrier
