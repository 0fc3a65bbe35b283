#include <sys/prctl.h>

#include <csignal>
#include <iostream>

#include "cli/tune_inputs.h"
#include "cli/tuning_commands.h"
#include "compiler/cuda/runners/isolated_runner.h"
#include "compiler/cuda/runners/local_runner.h"
#include "ir/error.h"

namespace harrier {

int tune_worker_command(const TuneCommandOptions& options, Streams& streams) {
  // A kernel that hangs keeps this process from seeing that nobody asks any more.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (options.files.size() != 1) throw InvalidInput("tune-worker takes one file: `harrier tune` starts it");
  const TuneInputs inputs = tune_inputs(options.files.front(), options);
  LocalRunnerOptions local{.seed = options.seed};
  local.compile.store = open_store();
  const CandidateRunner runner = local_runner(inputs.workload, inputs.batches.draws, open_gpu(), local);
  serve_candidates(runner, std::cin, streams.out);
  return kSuccess;
}

}  // namespace harrier
