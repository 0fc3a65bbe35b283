// The tuner's other process, played by a few lines of shell: one candidate takes it along, the next are measured.
#include "compiler/cuda/runners/isolated_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compiler/cuda/runners/runner_messages.h"
#include "ir/error.h"
#include "support/temporary_folder.h"

namespace harrier {
namespace {

using autotune::Choice;
using autotune::RunStatus;
using std::chrono::milliseconds;
using testing::HasSubstr;

/// Candidates that differ in one number, which the shell can see.
Choice candidate(int heads) {
  return {.plan = {}, .schedule = CudaSchedule{.heads_per_group = heads, .split_tiles = 0, .split_capacity = 0}};
}

constexpr const char* kGood = R"(echo '{"status":"good","us":12.5,"reason":""}')";

class IsolatedRunner : public testing::Test {
 protected:
  /// A worker that does something else for candidate 2, and notes each of its starts.
  CandidateRunner runner(const std::string& for_the_second, const std::string& start = "echo ready") const {
    const std::string script = "echo x >> " + starts() + "\n" + start +
                               "\nwhile read -r line; do\ncase $line in\n*heads_per_group=2*) " + for_the_second +
                               ";;\n*) " + kGood + ";;\nesac\ndone";
    return isolated_runner({"/bin/sh", "-c", script}, workload_,
                           {.target = {}, .silicon_key = {}, .nvrtc = cuda::LazyNvrtc()}, {},
                           {.start = milliseconds(20000), .check = milliseconds(20000), .measure = milliseconds(1500)});
  }
  std::string starts() const { return folder_ / "starts"; }
  int times_started() const {
    std::ifstream file(starts());
    int count = 0;
    for (std::string line; std::getline(file, line);) ++count;
    return count;
  }

  const test::TemporaryFolder folder_;
  Workload workload_{
      .name = "test",
      .shape = {.heads = 8, .kv_heads = 8, .head_dim = 64, .value_dim = 64, .dtype = DataType::kBFloat16},
      .pattern = {.mask = causal()},
      .lengths = FixedLength{64}};
};

TEST_F(IsolatedRunner, AsksOneProcessForAll) {
  const CandidateRunner asked = runner(kGood);
  EXPECT_EQ(asked.check(candidate(1)).verdict.status, RunStatus::kGood);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(asked.measure(candidate(1), 0).us, 12.5);
  asked.release(candidate(1));
  EXPECT_EQ(times_started(), 1);
}

TEST_F(IsolatedRunner, ACrashCostsTheCandidateAlone) {
  const CandidateRunner asked = runner("kill -SEGV $$");
  EXPECT_EQ(asked.check(candidate(1)).verdict.status, RunStatus::kGood);
  const autotune::RunVerdict crashed = asked.check(candidate(2)).verdict;
  EXPECT_EQ(crashed.status, RunStatus::kFailed);
  EXPECT_EQ(crashed.reason, "the process that ran it died of signal 11 (Segmentation fault)");
  asked.release(candidate(2));
  EXPECT_EQ(asked.measure(candidate(1), 0).status, RunStatus::kGood);
  EXPECT_EQ(times_started(), 2);
}

TEST_F(IsolatedRunner, AHangCostsTheCandidateAloneInLaterRoundsToo) {
  const CandidateRunner asked = runner(R"(case $line in *check*) )" + std::string(kGood) + ";; *) sleep 1000;; esac");
  EXPECT_EQ(asked.check(candidate(2)).verdict.status, RunStatus::kGood);
  const autotune::RunVerdict hung = asked.measure(candidate(2), 0);
  EXPECT_EQ(hung.status, RunStatus::kTimedOut);
  EXPECT_EQ(hung.reason, "the process that ran it did not answer for 1.5 s");
  EXPECT_EQ(asked.measure(candidate(1), 0).status, RunStatus::kGood);
}

TEST_F(IsolatedRunner, AFaultThatTakesTheContextCostsTheCandidateAlone) {
  const CandidateRunner asked = runner(R"(echo '{"status":"device lost","us":0,"reason":"it faulted"}')");
  const autotune::RunVerdict lost = asked.check(candidate(2)).verdict;
  EXPECT_EQ(lost.status, RunStatus::kFailed);
  EXPECT_EQ(lost.reason, "it faulted");
  EXPECT_EQ(asked.check(candidate(1)).verdict.status, RunStatus::kGood);
  EXPECT_EQ(times_started(), 2) << "a context that faulted is not used again";
}

TEST_F(IsolatedRunner, NonsenseIsAFailure) {
  const CandidateRunner asked = runner("echo nonsense");
  EXPECT_EQ(asked.check(candidate(2)).verdict.reason, "the process that measures answered \"nonsense\"");
  EXPECT_EQ(asked.check(candidate(1)).verdict.status, RunStatus::kGood);
}

TEST_F(IsolatedRunner, AProcessThatDoesNotStartIsNoCandidatesFault) {
  const CandidateRunner asked = runner(kGood, "exit 3");
  const autotune::RunVerdict verdict = asked.check(candidate(1)).verdict;
  EXPECT_EQ(verdict.status, RunStatus::kNoDevice);
  EXPECT_THAT(verdict.reason, HasSubstr("does not start: it ended with code 3"));
  EXPECT_EQ(times_started(), 2);
  EXPECT_EQ(asked.measure(candidate(1), 0).status, RunStatus::kNoDevice);
  EXPECT_EQ(times_started(), 2) << "given up";
}

// The whole search over a worker that crashes under one candidate and hangs under another.
TEST_F(IsolatedRunner, TheSearchGoesOn) {
  const CandidateRunner asked = runner("kill -SEGV $$");
  std::vector<autotune::SearchCandidate> candidates;
  for (size_t i = 0; i < 4; ++i) candidates.push_back({.text = std::to_string(i), .code = i, .structure = "s"});
  std::vector<size_t> failed;
  const autotune::SearchHooks hooks = {
      .compile = [](size_t, const std::stop_token&) { return autotune::CompileVerdict{}; },
      .check = [&](size_t i) { return asked.check(candidate(static_cast<int>(i + 1))).verdict; },
      .measure = [&](size_t i, size_t draw) { return asked.measure(candidate(static_cast<int>(i + 1)), draw); },
      .now = [seconds = 0.0]() mutable { return seconds += 1e-3; },
      .failed = [&](size_t i, const std::string&) { failed.push_back(i); }};
  const autotune::SearchResult result = autotune::search(candidates, {}, hooks);
  EXPECT_FALSE(result.device_lost);
  EXPECT_EQ(result.trials[1].status, autotune::TrialStatus::kFailed);
  EXPECT_EQ(result.trials[3].status, autotune::TrialStatus::kFinalist);
  EXPECT_EQ(failed, std::vector<size_t>{1});
}

TEST(ServeCandidates, AnswersUntilItsContextIsLost) {
  const CandidateRunner runner = {
      .compile = {},
      .check = [](const Choice& choice) -> CheckedCandidate {
        if (choice.schedule->heads_per_group == 2) throw DeviceError(DeviceFailure::kOutOfMemory, "no\nmemory");
        return {.verdict = {}, .reference_error = 0.001};
      },
      .measure = [](const Choice& choice, size_t draw) -> autotune::RunVerdict {
        if (choice.schedule->heads_per_group == 3) throw DeviceError(DeviceFailure::kLaunch, "it faulted");
        return {.status = RunStatus::kGood, .us = 10.0 * static_cast<double>(draw), .reason = {}};
      },
      .release = [](const Choice&) {}};
  std::istringstream requests(to_line({.task = RunnerTask::kCheck, .choice = candidate(1)}) + "\n" +
                              to_line({.task = RunnerTask::kCheck, .choice = candidate(2)}) + "\nnonsense\n" +
                              to_line({.task = RunnerTask::kMeasure, .choice = candidate(1), .draw = 2}) + "\n" +
                              to_line({.task = RunnerTask::kMeasure, .choice = candidate(3)}) + "\n" +
                              to_line({.task = RunnerTask::kCheck, .choice = candidate(1)}) + "\n");
  std::stringstream answers;
  serve_candidates(runner, requests, answers);
  std::vector<std::string> lines;
  for (std::string line; std::getline(answers, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 6) << "nothing is asked of it after a fault";
  EXPECT_EQ(lines[0], kWorkerReady);
  EXPECT_EQ(answer_of(lines[1])->reference_error, 0.001);
  EXPECT_EQ(answer_of(lines[2])->verdict.status, RunStatus::kFailed);
  EXPECT_EQ(answer_of(lines[2])->verdict.reason, "no\nmemory");
  EXPECT_EQ(answer_of(lines[3])->verdict.reason, "no request: nonsense");
  EXPECT_EQ(answer_of(lines[4])->verdict.us, 20);
  EXPECT_EQ(answer_of(lines[5])->verdict.status, RunStatus::kDeviceLost);
}

RC_GTEST_PROP(RunnerMessages, AreReadAsTheyWereWritten, ()) {
  CheckedCandidate answer{.verdict = {.status = *rc::gen::element(RunStatus::kGood, RunStatus::kWrong,
                                                                  RunStatus::kTimedOut, RunStatus::kNoDevice),
                                      .us = *rc::gen::arbitrary<double>(),
                                      .reason = *rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127))},
                          .reference_error = {}};
  if (*rc::gen::arbitrary<bool>()) answer.reference_error = *rc::gen::arbitrary<double>();
  const std::string line = to_line(answer);
  RC_ASSERT(line.find('\n') == std::string::npos);
  const std::optional<CheckedCandidate> read = answer_of(line);
  RC_ASSERT(read.has_value());
  RC_ASSERT(read->verdict.status == answer.verdict.status);
  RC_ASSERT(read->verdict.us == answer.verdict.us);
  RC_ASSERT(read->verdict.reason == answer.verdict.reason);
  RC_ASSERT(read->reference_error == answer.reference_error);
}

}  // namespace
}  // namespace harrier
