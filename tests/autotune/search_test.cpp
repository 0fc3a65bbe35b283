#include "autotune/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/error.h"
#include "synthetic_device.h"

namespace harrier::autotune {
namespace {

using test::SyntheticCandidate;
using test::SyntheticDevice;
using testing::ElementsAre;
using testing::HasSubstr;

/// Candidates of one draw and codes of their own; the first is the default.
std::vector<SyntheticCandidate> with_times(const std::vector<double>& us) {
  std::vector<SyntheticCandidate> candidates;
  for (const double time : us) {
    candidates.push_back({.us = {time}, .code = candidates.size(), .predicted_us = time});
  }
  return candidates;
}

SearchResult search_on(SyntheticDevice& device, const SearchOptions& options = {}) {
  return search(device.candidates(), options, device.hooks());
}

TEST(Search, FindsTheFastest) {
  SyntheticDevice device(with_times({100, 130, 80, 99, 101, 350, 90}), 0.01, 1);
  const SearchResult result = search_on(device);
  EXPECT_EQ(result.winner, 2);
  EXPECT_NEAR(result.ratio.median, 0.8, 0.02);
  EXPECT_NEAR(result.default_us, 100, 5);
  EXPECT_EQ(result.trials[5].status, TrialStatus::kSlower);
  EXPECT_EQ(result.trials[0].status, TrialStatus::kFinalist);
  EXPECT_FALSE(result.out_of_time);
}

TEST(Search, ModelThatIsWrongOnlyChangesTheOrder) {
  auto candidates = with_times({100, 130, 80, 99});
  for (auto& candidate : candidates) candidate.predicted_us = 1000 - candidate.us[0];
  SyntheticDevice device(candidates, 0.01, 1);
  EXPECT_EQ(search_on(device).winner, 2);
}

// Gains that are inside the margin, or none at all, leave the default; large ones are found: whatever the noise.
TEST(Search, NoiseChangesNoWinnerInTenOfTen) {
  struct Times {
    std::vector<double> us;
    size_t winner;
  };
  const Times cases[] = {{{100, 100, 100, 100, 100, 100, 100, 100}, 0},
                         {{100, 99.5, 99.7, 100.2, 101, 104, 99.6, 100}, 0},
                         {{100, 94, 102, 110, 99.5, 100, 120, 101}, 1}};
  for (const double noise : {0.005, 0.015, 0.03}) {
    for (const Times& test : cases) {
      for (uint64_t seed = 1; seed <= 10; ++seed) {
        SyntheticDevice device(with_times(test.us), noise, seed);
        SearchOptions options;
        options.seed = 77 * seed;
        options.final_rounds = noise > 0.02 ? 30 : 12;
        EXPECT_EQ(search_on(device, options).winner, test.winner) << "noise " << noise << ", seed " << seed;
      }
    }
  }
}

TEST(Search, IncumbentStaysUnlessBeatenBeyondTheMargin) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SearchOptions options;
    options.incumbent = 2;
    // Candidate 1 is half a percent faster than the incumbent: by the margin, that is nothing.
    SyntheticDevice device(with_times({100, 89.5, 90, 100}), 0.01, seed);
    EXPECT_EQ(search_on(device, options).winner, 2) << "seed " << seed;
    SyntheticDevice improved(with_times({100, 84, 90, 100}), 0.01, seed);
    EXPECT_EQ(search_on(improved, options).winner, 1) << "seed " << seed;
    SyntheticDevice worse(with_times({100, 100.2, 112, 100}), 0.01, seed);
    EXPECT_EQ(search_on(worse, options).winner, 0) << "an incumbent slower than the default, seed " << seed;
  }
}

TEST(Search, AmongEquallyFastTheCheapestWinsEveryTime) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    auto candidates = with_times({100, 80, 80, 80, 80});
    candidates[1].shared_bytes = 3000;
    candidates[2].compiled.registers = 200;
    candidates[3].compiled.registers = 168;
    candidates[4].compiled.registers = 168;
    SyntheticDevice device(candidates, 0.001, seed);
    EXPECT_EQ(search_on(device).winner, 3) << "seed " << seed;
  }
}

TEST(Search, CandidateThatLosesOnOneDrawIsNotTaken) {
  auto candidates = with_times({100, 100, 100});
  candidates[0].us = {100, 100, 100};
  candidates[1].us = {60, 60, 115};  // faster by far in sum
  candidates[2].us = {90, 90, 102};  // within the cap on every draw
  SyntheticDevice device(candidates, 0.005, 3);
  SearchOptions options;
  options.draws = 3;
  EXPECT_EQ(search_on(device, options).winner, 2);
}

TEST(Search, WrongResultsAreNeverTimed) {
  auto candidates = with_times({100, 10, 90});
  candidates[1].check = RunStatus::kWrong;
  SyntheticDevice device(candidates, 0.005, 4);
  const SearchResult result = search_on(device);
  EXPECT_EQ(result.winner, 2);
  EXPECT_EQ(result.trials[1].status, TrialStatus::kWrong);
  EXPECT_EQ(result.trials[1].reason, "made to fail");
  EXPECT_EQ(device.measured[1], 0);
  EXPECT_FALSE(device.measured_unchecked);
}

TEST(Search, RejectedAndEqualCodeIsNeverRun) {
  auto candidates = with_times({100, 10, 50, 50});
  candidates[1].compiled = {.usable = false, .reason = "it spills"};
  candidates[2].compiled.fingerprint = candidates[3].compiled.fingerprint = "same";
  SyntheticDevice device(candidates, 0.005, 4);
  const SearchResult result = search_on(device);
  EXPECT_EQ(result.trials[1].status, TrialStatus::kRejected);
  EXPECT_EQ(result.trials[1].reason, "it spills");
  EXPECT_THAT(result.trials[3].reason, HasSubstr("the same machine code as candidate 102"));
  EXPECT_EQ(device.checked.count(1) + device.checked.count(3), 0);
  EXPECT_EQ(result.winner, 2);
}

TEST(Search, HangsAndFailuresAreTakenOutAndToldBeforehand) {
  auto candidates = with_times({100, 40, 50, 90});
  candidates[1].measured = RunStatus::kTimedOut;
  candidates[2].check = RunStatus::kFailed;
  SyntheticDevice device(candidates, 0.005, 4);
  SearchHooks hooks = device.hooks();
  std::set<size_t> begun;
  hooks.begin = [&](size_t candidate) { begun.insert(candidate); };
  hooks.survived = [&](size_t candidate) { begun.erase(candidate); };
  const SearchResult result = search(device.candidates(), {}, hooks);
  EXPECT_EQ(result.winner, 3);
  EXPECT_EQ(result.trials[1].status, TrialStatus::kTimedOut);
  EXPECT_EQ(result.trials[2].status, TrialStatus::kFailed);
  EXPECT_EQ(begun, std::set<size_t>{2});
}

TEST(Search, ThrownErrorsAreFailuresOfTheCandidate) {
  SyntheticDevice device(with_times({100, 40, 90}), 0.005, 4);
  SearchHooks hooks = device.hooks();
  hooks.check = [check = hooks.check](size_t candidate) {
    if (candidate == 1) throw DeviceError(DeviceFailure::kOutOfMemory, "no memory");
    return check(candidate);
  };
  hooks.compile = [compile = hooks.compile](size_t candidate, const std::stop_token& stop) {
    if (candidate == 2) throw ToolchainError("no such instruction");
    return compile(candidate, stop);
  };
  const SearchResult result = search(device.candidates(), {}, hooks);
  EXPECT_EQ(result.winner, 0);
  EXPECT_EQ(result.trials[1].reason, "no memory");
  EXPECT_EQ(result.trials[2].reason, "no such instruction");
}

TEST(Search, LostDeviceEndsItWithWhatIsKnown) {
  auto candidates = with_times({100, 60, 70, 80});
  candidates[2].measured = RunStatus::kDeviceLost;
  SyntheticDevice device(candidates, 0.005, 4);
  const SearchResult result = search_on(device);
  EXPECT_TRUE(result.device_lost);
  EXPECT_EQ(result.trials[2].status, TrialStatus::kFailed);
  EXPECT_EQ(result.winner, 0);  // one look at candidate 1 is not enough to take it
  EXPECT_EQ(device.measured[3], 0);
}

TEST(Search, FailuresOfLaterRoundsAreToldAndTakeTheCandidateOut) {
  auto candidates = with_times({100, 60, 70, 80});
  candidates[1].measured = RunStatus::kTimedOut;
  candidates[1].first_failure = 6;
  SyntheticDevice device(candidates, 0.005, 4);
  SearchHooks hooks = device.hooks();
  std::vector<size_t> failed;
  hooks.failed = [&](size_t candidate, const std::string& reason) {
    EXPECT_EQ(reason, "made to fail");
    failed.push_back(candidate);
  };
  const SearchResult result = search(device.candidates(), {}, hooks);
  EXPECT_THAT(failed, ElementsAre(1));
  EXPECT_EQ(result.winner, 2);
  EXPECT_EQ(result.trials[1].status, TrialStatus::kTimedOut);
  EXPECT_FALSE(result.device_lost);
}

TEST(Search, WithoutItsDefaultItEnds) {
  auto candidates = with_times({100, 60, 70, 80});
  candidates[0].measured = RunStatus::kTimedOut;
  candidates[0].first_failure = 12;
  SyntheticDevice device(candidates, 0.005, 4);
  SearchHooks hooks = device.hooks();
  hooks.failed = [](size_t candidate, const std::string&) { ADD_FAILURE() << candidate << " is left out from now on"; };
  const SearchResult result = search(device.candidates(), {}, hooks);
  EXPECT_TRUE(result.device_lost);
  EXPECT_EQ(device.measured[0], 12);
}

TEST(Search, ADeviceThatIsGoneIsNoCandidatesFault) {
  auto candidates = with_times({100, 60, 70, 80});
  candidates[2].check = RunStatus::kNoDevice;
  SyntheticDevice device(candidates, 0.005, 4);
  SearchHooks hooks = device.hooks();
  std::set<size_t> begun;
  hooks.begin = [&](size_t candidate) { begun.insert(candidate); };
  hooks.survived = [&](size_t candidate) { begun.erase(candidate); };
  hooks.failed = [](size_t candidate, const std::string&) { ADD_FAILURE() << candidate; };
  const SearchResult result = search(device.candidates(), {}, hooks);
  EXPECT_TRUE(result.device_lost);
  EXPECT_TRUE(begun.empty());
  EXPECT_EQ(result.trials[2].status, TrialStatus::kNotTried);
}

TEST(Search, QuarantinedCandidatesAreNotTouched) {
  SyntheticDevice device(with_times({100, 10, 90}), 0.005, 4);
  SearchOptions options;
  options.quarantined = {1};
  const SearchResult result = search_on(device, options);
  EXPECT_EQ(result.winner, 2);
  EXPECT_EQ(result.trials[1].status, TrialStatus::kQuarantined);
  EXPECT_EQ(device.checked.count(1), 0);
}

TEST(Search, DefaultThatFailsIsAnError) {
  const auto message = [](SyntheticCandidate broken) {
    auto candidates = with_times({100, 50});
    candidates[0] = std::move(broken);
    SyntheticDevice device(candidates, 0.005, 4);
    try {
      search_on(device);
    } catch (const ToolchainError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message({.us = {1}, .compiled = {.usable = false, .reason = "no NVRTC"}}),
            "the default plan (candidate 100) does not compile: no NVRTC");
  EXPECT_EQ(message({.us = {1}, .check = RunStatus::kWrong}),
            "the default plan (candidate 100) does not run: made to fail");
}

TEST(Search, KeepsItsBudget) {
  std::vector<double> us(60, 100.0);
  us[59] = 20;
  for (const double budget : {0.0, 0.05, 0.3, 2.0}) {
    SyntheticDevice device(with_times(us), 0.01, 5);
    device.compile_seconds = 0.05;
    SearchOptions options;
    options.budget_seconds = budget;
    options.most_codes = 60;
    const SearchResult result = search_on(device, options);
    // What is under way when time is over is finished: one compilation, or one round of few candidates.
    EXPECT_LT(result.seconds, budget + 0.2) << budget;
    EXPECT_TRUE(result.out_of_time) << budget;
  }
}

TEST(Search, StoppedItKeepsTheBestSoFar) {
  SyntheticDevice device(with_times({100, 50, 130, 120}), 0.01, 5);
  std::stop_source source;
  SearchHooks hooks = device.hooks();
  SearchOptions options;
  options.stop = source.get_token();
  int rounds_of_the_best = 0;
  hooks.measure = [&, measure = hooks.measure](size_t candidate, size_t draw) {
    if (candidate == 1 && ++rounds_of_the_best == 8) source.request_stop();
    return measure(candidate, draw);
  };
  const SearchResult result = search(device.candidates(), options, hooks);
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.winner, 1);
  EXPECT_LT(rounds_of_the_best, 10);
}

TEST(Search, SchedulesOfTheBestCodesAreTriedWithoutCompiling) {
  // Two codes; the second one's first schedule is middling, its other one is best.
  std::vector<SyntheticCandidate> candidates = {{.us = {100}, .code = 0, .predicted_us = 1},
                                                {.us = {95}, .code = 1, .predicted_us = 2},
                                                {.us = {70}, .code = 1, .predicted_us = 3},
                                                {.us = {99}, .code = 0, .predicted_us = 3}};
  SyntheticDevice device(candidates, 0.005, 6);
  const SearchResult result = search_on(device);
  EXPECT_EQ(result.winner, 2);
  EXPECT_THAT(device.compiled, ElementsAre(0, 1));
}

TEST(Search, CompilesOnSeveralThreads) {
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  SyntheticDevice device(with_times({100, 90, 110, 120, 80, 95, 99, 100}), 0.005, 7);
  SearchHooks hooks = device.hooks();
  hooks.compile = [&](size_t, const std::stop_token&) {
    const int now = ++running;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    --running;
    return CompileVerdict{};
  };
  SearchOptions options;
  options.compile_threads = 4;
  EXPECT_EQ(search(device.candidates(), options, hooks).winner, 4);
  EXPECT_GT(most, 1);
  EXPECT_LE(most, 4);
}

TEST(Search, SameSeedSameSearch) {
  const auto run = [] {
    SyntheticDevice device(with_times({100, 97, 98, 99, 101, 96}), 0.02, 8);
    const SearchResult result = search_on(device);
    return std::pair(result.winner, device.measured);
  };
  EXPECT_EQ(run(), run());
}

TEST(Search, ProgressRisesAndTimeLeftStaysInTheBudget) {
  SyntheticDevice device(with_times({100, 97, 98, 50, 101, 96}), 0.01, 9);
  SearchOptions options;
  const SearchResult result = search_on(device, options);
  ASSERT_FALSE(device.reports.empty());
  int64_t done = 0;
  for (const SearchProgress& report : device.reports) {
    EXPECT_GT(report.done, done);
    done = report.done;
    EXPECT_LE(report.done, report.total);
    EXPECT_GE(report.seconds_left, 0);
    EXPECT_LE(report.seconds_left, options.budget_seconds);
  }
  EXPECT_EQ(device.reports.back().best, result.winner);
}

TEST(Shortlist, BestOfEveryStructureComesFirst) {
  std::vector<SearchCandidate> candidates;
  const auto add = [&](const char* structure, double predicted) {
    candidates.push_back({.text = std::to_string(candidates.size()),
                          .code = candidates.size(),
                          .structure = structure,
                          .predicted_us = predicted});
  };
  add("a", 50);  // the default
  add("a", 10);
  add("b", 30);
  add("b", 20);
  add("c", 90);
  EXPECT_THAT(shortlist(candidates, {}), ElementsAre(0, 3, 4, 1, 2));
  SearchOptions few;
  few.most_codes = 2;
  EXPECT_THAT(shortlist(candidates, few), ElementsAre(0, 3));
  few.incumbent = 4;
  EXPECT_THAT(shortlist(candidates, few), ElementsAre(0, 4));
  few.quarantined = {3};
  few.incumbent.reset();
  EXPECT_THAT(shortlist(candidates, few), ElementsAre(0, 2));
}

}  // namespace
}  // namespace harrier::autotune
