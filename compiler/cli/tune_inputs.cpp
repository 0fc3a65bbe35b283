#include "cli/tune_inputs.h"

namespace harrier {
namespace {

constexpr int64_t kQuickDraws = 3;
constexpr int64_t kFullDraws = 5;

}  // namespace

Workload tuned_workload(const std::string& file, const TuneCommandOptions& options) {
  Workload workload = read_workload(file);
  if (!options.lengths.empty()) {
    workload.lengths = TraceLength{.path = options.lengths};
    load_trace(workload.lengths, "");
  }
  return workload;
}

TuneInputs tune_inputs(const std::string& file, const TuneCommandOptions& options) {
  Workload workload = tuned_workload(file, options);
  const int64_t draws = options.effort == "full" ? kFullDraws : kQuickDraws;
  DrawnBatches batches = draw_batches(workload, options.bindings, draws, options.seed);
  return {.workload = std::move(workload), .batches = std::move(batches)};
}

std::vector<std::string> worker_command(const std::string& program, const std::string& file,
                                        const TuneCommandOptions& options) {
  std::vector<std::string> command = {program,        "tune-worker", "--effort",
                                      options.effort, "--seed",      std::to_string(options.seed)};
  if (!options.lengths.empty()) command.insert(command.end(), {"--lengths", options.lengths});
  for (const BindOption& binding : options.bindings) {
    command.insert(command.end(), {"--bind", binding.name + "=" + binding.path});
  }
  // A name that begins with a dash is a file all the same.
  command.insert(command.end(), {"--", file});
  return command;
}

}  // namespace harrier
