#include "compiler/cuda/runners/isolated_runner.h"

#include <fmt/format.h>

#include <istream>
#include <memory>
#include <optional>
#include <ostream>

#include "compiler/cuda/cuda_code.h"
#include "compiler/cuda/runners/local_runner.h"
#include "compiler/cuda/runners/runner_messages.h"
#include "compiler/cuda/runners/worker_process.h"
#include "ir/error.h"

namespace harrier {
namespace {

using autotune::RunStatus;

/// How often a start is tried before the GPU is given up.
constexpr int kStarts = 2;

class IsolatedRunner {
 public:
  IsolatedRunner(std::vector<std::string> command, const IsolationLimits& limits)
      : command_(std::move(command)), limits_(limits) {
    // It opens the GPU while the first code is compiled here.
    worker_ = std::make_unique<WorkerProcess>(command_);
  }

  CheckedCandidate ask(const RunnerRequest& request, std::chrono::milliseconds limit) {
    if (!is_ready()) return lost();
    const std::optional<std::string> line = worker_->ask(to_line(request), limit);
    if (!line) return after_death();
    std::optional<CheckedCandidate> answer = answer_of(*line);
    if (!answer) {
      drop();
      return failed(RunStatus::kFailed, fmt::format("the process that measures answered \"{}\"", *line));
    }
    if (answer->verdict.status == RunStatus::kDeviceLost) {
      // Its context is gone; another process gets another.
      drop();
      answer->verdict.status = RunStatus::kFailed;
    }
    return *answer;
  }

  void release(const autotune::Choice& choice) {
    // A worker that has gone remembers nothing that could be released.
    if (worker_ && has_started_) ask({.task = RunnerTask::kRelease, .choice = choice}, limits_.measure);
  }

  const IsolationLimits& limits() const { return limits_; }

 private:
  static CheckedCandidate failed(RunStatus status, std::string reason) {
    return {.verdict = {.status = status, .us = 0, .reason = std::move(reason)}};
  }

  void drop() {
    worker_.reset();
    has_started_ = false;
  }

  /// Waits for the worker that was started, or starts one.
  bool is_ready() {
    for (int i = 0; i < kStarts && !has_started_ && !is_lost_; ++i) {
      try {
        if (!worker_) worker_ = std::make_unique<WorkerProcess>(command_);
      } catch (const ToolchainError& error) {
        fate_ = error.what();
        continue;
      }
      const std::optional<std::string> line = worker_->listen(limits_.start);
      has_started_ = line && *line == kWorkerReady;
      if (has_started_) break;
      fate_ = "it " + (line ? fmt::format("said \"{}\"", *line) : worker_->fate().how);
      is_lost_ = worker_->fate().is_stuck;
      drop();
    }
    is_lost_ = !has_started_;
    return has_started_;
  }

  CheckedCandidate lost() const {
    return failed(RunStatus::kNoDevice,
                  fmt::format("the process that measures does not start: {}; nvidia-smi shows whether the GPU still "
                              "answers",
                              fate_));
  }

  CheckedCandidate after_death() {
    const WorkerProcess::Fate fate = worker_->fate();
    drop();
    if (fate.is_stuck) {
      is_lost_ = true;
      fate_ = "it " + fate.how + " and cannot be ended";
    }
    return failed(fate.timed_out ? RunStatus::kTimedOut : RunStatus::kFailed, "the process that ran it " + fate.how);
  }

  std::vector<std::string> command_;
  IsolationLimits limits_;
  std::unique_ptr<WorkerProcess> worker_;
  bool has_started_ = false;
  bool is_lost_ = false;
  std::string fate_;  // of the last one that did not start
};

/// One request; what the runner throws is the candidate's failure.
CheckedCandidate answer_to(const CandidateRunner& runner, const RunnerRequest& request) {
  try {
    switch (request.task) {
      case RunnerTask::kCheck:
        return runner.check(request.choice);
      case RunnerTask::kMeasure:
        return {.verdict = runner.measure(request.choice, request.draw)};
      case RunnerTask::kRelease:
        runner.release(request.choice);
        return {};
    }
    return {};
  } catch (const Error& error) {
    return {.verdict = autotune::failure_of(error)};
  }
}

}  // namespace

CandidateRunner isolated_runner(const std::vector<std::string>& worker, const Workload& workload, const DistantGpu& gpu,
                                const CudaCompileOptions& compile, const IsolationLimits& limits) {
  auto runner = std::make_shared<IsolatedRunner>(worker, limits);
  const CudaPlan default_plan = default_plan_of(workload, gpu.target);
  const auto compile_here = [=](const autotune::Choice& choice, const std::stop_token& stop) {
    CudaCompileOptions options = compile;
    options.stop = stop;
    const bool is_default = choice.plan == default_plan;
    options.plan = is_default ? std::nullopt : std::optional(choice.plan);
    return verdict_of(compile_ahead(workload, gpu.target, gpu.nvrtc, options, gpu.silicon_key), is_default);
  };
  return {.compile = compile_here,
          .check =
              [runner](const autotune::Choice& choice) {
                return runner->ask({.task = RunnerTask::kCheck, .choice = choice}, runner->limits().check);
              },
          .measure =
              [runner](const autotune::Choice& choice, size_t draw) {
                return runner
                    ->ask({.task = RunnerTask::kMeasure, .choice = choice, .draw = draw}, runner->limits().measure)
                    .verdict;
              },
          .release = [runner](const autotune::Choice& choice) { runner->release(choice); }};
}

void serve_candidates(const CandidateRunner& runner, std::istream& requests, std::ostream& answers) {
  answers << kWorkerReady << "\n" << std::flush;
  for (std::string line; std::getline(requests, line);) {
    const std::optional<RunnerRequest> request = request_of(line);
    const CheckedCandidate answer =
        request ? answer_to(runner, *request)
                : CheckedCandidate{.verdict = {.status = RunStatus::kFailed, .us = 0, .reason = "no request: " + line}};
    answers << to_line(answer) << "\n" << std::flush;
    if (answer.verdict.status == RunStatus::kDeviceLost) return;
  }
}

}  // namespace harrier
