// What a tune command runs: the same in its own process and in the one that measures for it.
#pragma once

#include <string>
#include <vector>

#include "cli/draw_batches.h"
#include "cli/tuning_commands.h"

namespace harrier {

struct TuneInputs {
  Workload workload;
  DrawnBatches batches;
};

/// The file, with the options' lengths where there are any. Throws InvalidInput.
Workload tuned_workload(const std::string& file, const TuneCommandOptions& options);

/// Of one of the options' files. Equal options and files give equal batches. Throws InvalidInput.
TuneInputs tune_inputs(const std::string& file, const TuneCommandOptions& options);

/// The program and arguments that measure this file.
std::vector<std::string> worker_command(const std::string& program, const std::string& file,
                                        const TuneCommandOptions& options);

}  // namespace harrier
