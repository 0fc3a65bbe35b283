// What tries candidates for the tuner: this process (local_runner), or one that may die of them (isolated_runner).
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <stop_token>

#include "autotune/candidate_text.h"
#include "autotune/search.h"

namespace harrier {

struct CheckedCandidate {
  autotune::RunVerdict verdict;
  std::optional<double> reference_error = {};  // of the default: against double precision, relative
};

/// `compile` runs on several threads at once, the others on one. All may throw Error: the candidate has failed then.
struct CandidateRunner {
  std::function<autotune::CompileVerdict(const autotune::Choice&, const std::stop_token&)> compile;
  /// Its output on every draw beside the default's.
  std::function<CheckedCandidate(const autotune::Choice&)> check;
  std::function<autotune::RunVerdict(const autotune::Choice&, size_t draw)> measure;
  /// It will not be run again.
  std::function<void(const autotune::Choice&)> release;
};

}  // namespace harrier
