// Tries candidates in this process and in the device's primary context: one that hangs, hangs the process; one that
// faults takes the context along, and whatever else the process had there.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/cuda/plan_costs.h"
#include "compiler/cuda/runners/candidate_runner.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

struct LocalRunnerOptions {
  CudaCompileOptions compile = {};  // where code comes from; its plan is not looked at
  uint64_t seed = 1;                // of tensors
  /// Instead of events, for tests: the microseconds of a launch, which has run.
  std::function<double(const autotune::Choice&, size_t draw)> timed_us = {};
};

/// The draws must outlive the runner. Device memory is taken now. Throws DeviceError.
CandidateRunner local_runner(const Workload& workload, const std::vector<LengthDraw>& draws, const Gpu& gpu,
                             const LocalRunnerOptions& options);

/// The plan that compile_cuda starts from where nobody wants another.
CudaPlan default_plan_of(const Workload& workload, const CudaTarget& target);

/// What the tuner thinks of machine code. The default is taken as it is: it has been made roomier where it had to be.
autotune::CompileVerdict verdict_of(const cuda::CudaBinary& binary, bool is_default);

}  // namespace harrier
