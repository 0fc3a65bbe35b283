// Finds the fastest plan and schedule of a workload on a GPU, by running them.
//
// Launches are timed by events behind a flushed L2, candidates in turns; what a candidate computes is compared with the
// default's output before its time counts, and the default's with double precision where the pattern is one that this
// can be computed for here. Of a workload with direction backward these are launches and gradients of q, k and v; what
// gradients of learned arrays take beside them is not timed.
//
// In this process a candidate that hangs on the GPU hangs the caller, for nothing takes its work back, and one that
// faults ends the search (Tuning::device_lost) and takes the device's primary context along, with all that the process
// keeps there. Tell `begin`, `survived` and `failed` to a store (tuning_store) and the next search leaves it out. Where
// that is not good enough, tune through an isolated_runner, as `harrier tune` does: a process of its own loses such a
// candidate and nothing else.
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "autotune/candidate_text.h"
#include "autotune/cost_model.h"
#include "autotune/search.h"
#include "compiler/cuda/plan_costs.h"
#include "compiler/cuda/runners/candidate_runner.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

/// One candidate, and what became of it.
struct TunedCandidate {
  autotune::Choice choice;
  double predicted_us = 0;  // by the cost model, one draw
  autotune::Trial trial;
};

struct Tuning {
  Workload workload;
  std::vector<TunedCandidate> candidates;  // the default first
  size_t winner = 0;
  double default_us = 0;  // of one draw
  double tuned_us = 0;
  autotune::RatioInterval ratio;          // the winner's times over the default's
  std::optional<double> reference_error;  // of the default against double precision, relative; nothing: not computed
  double useful_flops = 0;                // of one draw
  double least_bytes = 0;                 // of one draw: q, k, v and out (backward: and their gradients), each once
  autotune::RateCalibration calibration = {};  // what is known of the GPU now
  int rounds = 0;
  int64_t measurements = 0;
  double seconds = 0;
  bool out_of_time = false;
  bool stopped = false;
  bool device_lost = false;  // the process can measure nothing more; what was known until then stands
};

struct TuneProgress {
  int64_t done = 0;
  int64_t total = 0;
  double seconds_left = 0;
  double ratio = 1;  // best time so far over the default's
};

struct TuneOptions {
  double budget_seconds = 30;
  bool full = false;                               // every code of the space and long finals; else the most promising
  uint64_t seed = 1;                               // of tensors, of turns
  size_t most_codes = 0;                           // plans compiled at most; 0: as the effort says
  int compile_threads = 0;                         // 0: as many as cores
  std::optional<autotune::Choice> incumbent = {};  // what was chosen before
  autotune::RateCalibration calibration = {};      // what is known of the GPU, as Tuning said last
  std::function<bool(const autotune::Choice&)> is_quarantined = {};  // not to be tried
  CudaCompileOptions compile = {};                                   // where code comes from; its plan is not looked at
  std::function<void(const TuneProgress&)> progress = {};
  std::function<void(const autotune::Choice&)> begin = {};     // before a candidate first runs
  std::function<void(const autotune::Choice&)> survived = {};  // when it did, or was not run after all
  std::function<void(const autotune::Choice&, const std::string& reason)> failed = {};  // then, or in a later round
  std::stop_token stop = {};
  /// Instead of the clock and, in this process, of events, for tests: seconds since some time, and the microseconds of
  /// a launch, which has run.
  std::function<double()> now = {};
  std::function<double(const autotune::Choice&, size_t draw)> timed_us = {};
};

/// In this process. `draws`: batches as they may come, at least one, all packed; a candidate's time is the sum over
/// them. Throws InvalidInput for a workload or arrays that do not fit, ToolchainError when the default does not run,
/// DeviceError.
Tuning tune_cuda(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
                 const TuneOptions& options = {});

/// Wherever the runner tries candidates. Opens no GPU.
Tuning tune_cuda(const CandidateRunner& runner, const Workload& workload, const std::vector<LengthDraw>& draws,
                 const cuda::DeviceFacts& facts, const TuneOptions& options = {});

/// What kernels are tuned for on a GPU that is not opened.
CudaTarget target_on(const cuda::DeviceFacts& facts, const CudaCompileOptions& compile = {});

}  // namespace harrier
