// Finds the fastest of many candidates within a budget, and stays with the default unless another is faster beyond
// noise.
//
// What a candidate is, how it is compiled and timed, and what time it is are all the caller's: the search decides what
// to try next. It can be stopped at any moment and has an answer then.
//
//   1. rank by what the cost model says; of every structure the best one first
//   2. compile in parallel, look once at each candidate as soon as it is ready: correct? far too slow?
//   3. rounds in which all that are left take turns, in random order; after each the slower half is dropped
//   4. the other schedules of the best codes, likewise
//   5. a final of the best few with the default and the incumbent; a switch needs a margin beyond noise
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "autotune/paired_ratios.h"
#include "ir/error.h"

namespace harrier::autotune {

struct SearchCandidate {
  std::string text;         // tells candidates apart; equal candidates are told apart by it alone
  size_t code = 0;          // candidates of one code are compiled once; they differ in their schedules
  std::string structure;    // the group that it is the best of, or not
  double predicted_us = 0;  // by the cost model
  int64_t shared_bytes = 0;
};

struct CompileVerdict {
  bool usable = true;
  std::string reason = {};  // why not: it spills, say
  int registers = 0;
  std::string fingerprint = {};  // equal ones are the same machine code; empty: not known
};

enum class RunStatus {
  kGood,
  kWrong,   // its output differs
  kFailed,  // a launch was refused
  kTimedOut,
  kDeviceLost,  // it failed, and nothing more can be measured
  kNoDevice,    // nothing more can be measured, and it is not this candidate's fault
};

struct RunVerdict {
  RunStatus status = RunStatus::kGood;
  double us = 0;
  std::string reason = {};
};

/// What an error says of the candidate that was running: after some the device takes no more work from the process.
RunVerdict failure_of(const Error& error);

struct SearchProgress {
  int64_t done = 0;  // steps
  int64_t total = 0;
  double seconds_left = 0;
  size_t best = 0;   // candidate so far
  double ratio = 1;  // its time over the default's
};

/// `compile` runs on several threads at once, the others on the caller's alone. All may throw Error: the candidate has
/// failed then.
struct SearchHooks {
  std::function<CompileVerdict(size_t candidate, std::stop_token stop)> compile;
  std::function<RunVerdict(size_t candidate)> check;
  std::function<RunVerdict(size_t candidate, size_t draw)> measure;
  std::function<double()> now;  // seconds
  std::function<void(const SearchProgress&)> progress = {};
  /// Told before anything of a candidate runs for the first time, and when it has run well, or not at all: what is
  /// left begun when the process dies is what killed it. And of every failure, also of a candidate that ran well
  /// before.
  std::function<void(size_t candidate)> begin = {};
  std::function<void(size_t candidate)> survived = {};
  std::function<void(size_t candidate, const std::string& reason)> failed = {};
  /// The candidate will not be run again.
  std::function<void(size_t candidate)> release = {};
};

struct SearchOptions {
  double budget_seconds = 10;
  uint64_t seed = 1;
  int compile_threads = 0;  // 0: on the caller's thread, when a code is needed
  size_t most_codes = 24;   // compiled at most
  size_t draws = 1;         // of lengths: a candidate's time is the sum over them
  size_t finalists = 4;     // beside the default and the incumbent
  int final_rounds = 12;
  double margin = 0.01;           // a switch must gain more than that beyond noise
  double worst_draw_loss = 0.05;  // over the default, on any draw
  double confidence = 0.95;
  size_t default_candidate = 0;
  std::optional<size_t> incumbent = {};  // what an earlier search chose: it stays unless beaten beyond noise
  std::vector<size_t> quarantined = {};  // not to be tried
  std::stop_token stop = {};
};

enum class TrialStatus {
  kNotTried,
  kQuarantined,  // by an earlier search
  kRejected,     // by the compiler's log, or as the same machine code as another
  kWrong,
  kFailed,
  kTimedOut,
  kSlower,  // dropped on the way
  kFinalist,
};

/// "not tried", "quarantined", "rejected", ...
const char* name_of(TrialStatus status);

struct Trial {
  TrialStatus status = TrialStatus::kNotTried;
  std::string reason = {};
  int registers = 0;
  std::vector<std::vector<double>> us = {};  // [draw][time], in the order in which they were taken
  RatioInterval ratio = {};                  // over the default, paired by round
};

struct SearchResult {
  size_t winner = 0;
  double default_us = 0;  // medians, summed over draws and divided by their number
  double winner_us = 0;
  RatioInterval ratio = {};  // the winner over the default
  std::vector<Trial> trials;
  int rounds = 0;
  int64_t measurements = 0;
  double seconds = 0;
  bool out_of_time = false;  // before all that was planned
  bool stopped = false;
  bool device_lost = false;
};

/// Candidates in the order in which they are tried: the default, the best of each structure as the model ranks them,
/// then the others; only the best of each code. Pure.
std::vector<size_t> shortlist(const std::vector<SearchCandidate>& candidates, const SearchOptions& options);

/// Throws ToolchainError when the default itself does not compile, run or give the right result.
SearchResult search(const std::vector<SearchCandidate>& candidates, const SearchOptions& options,
                    const SearchHooks& hooks);

}  // namespace harrier::autotune
