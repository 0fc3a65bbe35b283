// A GPU that is a table of times, with noise and a clock that only its own work moves.
#pragma once

#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "autotune/search.h"

namespace harrier::autotune::test {

struct SyntheticCandidate {
  std::vector<double> us;  // true time of each draw
  size_t code = 0;
  std::string structure = "s";
  double predicted_us = 0;
  CompileVerdict compiled = {};
  RunStatus check = RunStatus::kGood;
  RunStatus measured = RunStatus::kGood;  // of every measurement, from this one on:
  int first_failure = 1;
  int64_t shared_bytes = 1000;
};

class SyntheticDevice {
 public:
  SyntheticDevice(std::vector<SyntheticCandidate> candidates, double noise, uint64_t seed)
      : candidates_(std::move(candidates)), noise_(noise), random_(seed) {}

  std::vector<SearchCandidate> candidates() const {
    std::vector<SearchCandidate> result;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const SyntheticCandidate& candidate = candidates_[i];
      result.push_back({.text = "candidate " + std::to_string(100 + i),
                        .code = candidate.code,
                        .structure = candidate.structure,
                        .predicted_us = candidate.predicted_us,
                        .shared_bytes = candidate.shared_bytes});
    }
    return result;
  }

  SearchHooks hooks() {
    return {.compile =
                [this](size_t candidate, const std::stop_token&) {
                  seconds_ += compile_seconds;
                  compiled.push_back(candidate);
                  return candidates_[candidate].compiled;
                },
            .check =
                [this](size_t candidate) {
                  seconds_ += launch_seconds;
                  checked.insert(candidate);
                  return RunVerdict{.status = candidates_[candidate].check, .us = 0, .reason = "made to fail"};
                },
            .measure =
                [this](size_t candidate, size_t draw) {
                  seconds_ += launch_seconds;
                  const bool fails = ++measured[candidate] >= candidates_[candidate].first_failure;
                  if (!checked.contains(candidate)) measured_unchecked = true;
                  return RunVerdict{.status = fails ? candidates_[candidate].measured : RunStatus::kGood,
                                    .us = candidates_[candidate].us[draw] * noise_now(),
                                    .reason = "made to fail"};
                },
            .now = [this] { return seconds_; },
            .progress = [this](const SearchProgress& progress) { reports.push_back(progress); }};
  }

  double compile_seconds = 0.01;
  double launch_seconds = 0.001;
  std::vector<size_t> compiled;
  std::set<size_t> checked;
  std::map<size_t, int> measured;
  std::vector<SearchProgress> reports;
  bool measured_unchecked = false;

 private:
  /// A slow drift that neighbours in time share, as of a GPU that warms up, and what each measurement has of its own.
  double noise_now() {
    std::normal_distribution<double> normal;
    drift_ = 0.95 * drift_ + 0.3 * noise_ * normal(random_);
    return std::exp(drift_ + noise_ * normal(random_));
  }

  std::vector<SyntheticCandidate> candidates_;
  double noise_;
  std::mt19937_64 random_;
  double seconds_ = 0;
  double drift_ = 0;
};

}  // namespace harrier::autotune::test
