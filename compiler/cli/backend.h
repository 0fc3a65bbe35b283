// Which backend runs a workload, behind one face: compiled here, run on arrays of the host.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "compiler/harrier.h"

namespace harrier {

/// A compiled workload, ready to run.
struct Runnable {
  std::string backend;  // "cpu", or "cuda (NVIDIA H100, sm_90a)"
  Workload workload;    // simplified
  std::string plan;
  std::vector<PassTime> compile_times;
  std::function<RunReport(const AttentionTensors&, const Bindings&, const PassObserver&)> run;
  /// For a workload with direction backward, instead of `run`.
  std::function<RunReport(const AttentionTensors&, const AttentionGradients&, const Bindings&, const PassObserver&)>
      run_backward;
};

/// Compiles for `options.backend`. `auto` takes the GPU where there is one that can run the workload, else the CPU; why
/// a GPU that is there was not taken is appended to `notes`. Throws InvalidInput, ToolchainError, DeviceError.
Runnable compile_for(const RunOptions& options, const Workload& workload, const PassObserver& observer,
                     std::vector<std::string>& notes);

}  // namespace harrier
