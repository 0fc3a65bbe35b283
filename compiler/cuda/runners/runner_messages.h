// What the tuner and the process that measures for it say to each other: a line of JSON each way.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "compiler/cuda/runners/candidate_runner.h"

namespace harrier {

enum class RunnerTask { kCheck, kMeasure, kRelease };

struct RunnerRequest {
  RunnerTask task = RunnerTask::kCheck;
  autotune::Choice choice;
  size_t draw = 0;  // of kMeasure
};

/// The first line of a worker: it has the GPU and the tensors.
inline constexpr std::string_view kWorkerReady = "ready";

std::string to_line(const RunnerRequest& request);
std::string to_line(const CheckedCandidate& answer);

/// Nothing for what to_line did not write.
std::optional<RunnerRequest> request_of(const std::string& line);
std::optional<CheckedCandidate> answer_of(const std::string& line);

}  // namespace harrier
