#include "cli/tuning_arguments.h"

namespace harrier {
namespace {

constexpr const char* kTuneHelp =
    R"(Runs plans and schedules on the GPU, in turns with the default one, and keeps what is faster beyond noise; `run` and
programs take it from then on, also for similar lengths. Lengths are drawn from the workload's `lengths`, or --lengths.
Plans run in a process of their own: one that crashes, faults or hangs costs that process, which is started again, and
is left out from then on (--again tries it). Ctrl-C keeps the best so far.

Times are of one batch, in microseconds, with a cold L2.

--pin runs nothing: what `tune --json` printed, or {"choice": "..."} with a choice from there or from `cache ls`, is
taken by `run` and programs on this kind of GPU until --unpin, and later tunings leave it. `cache ls` marks it.

Examples:
  harrier tune bigbird.attn
  harrier tune patterns/*.attn --lengths trace.csv --budget 30s
  harrier tune bigbird.attn --peers peers.json    rows like {"workload": "bigbird", "system": "flex", "ms": 1.5}
  harrier tune window.attn --effort full --json > window.json
  harrier tune window.attn --pin window.json)";

constexpr const char* kExplainHelp =
    R"(Prints which rung of the ladder answers: pinned, exact, other-environment, nearest-lengths, other-silicon, cost-model,
default. What is not tuned takes the nearest that is.

Example:
  harrier explain bigbird.attn)";

constexpr const char* kReportHelp =
    R"(Writes one HTML file about all tunings in the cache: what was tried, how times spread, plan against time, where the
result lies under the roofline. It needs nothing beside it.

Example:
  harrier report -o report.html)";

/// What decides the batches that are run.
void add_tuned_batches(CLI::App& command, TuningArguments& arguments) {
  TuneCommandOptions& options = arguments.tune;
  command.add_option("files", options.files, "Workloads")->type_name("FILE.attn")->required();
  command.add_option("--lengths", options.lengths, "Lengths to tune for, instead of the files' own")
      ->type_name("FILE.csv");
  command.add_option("--effort", options.effort, "quick or full (default quick)")->type_name("NAME");
  command.add_option("--bind", arguments.tune_bindings, "Array for @NAME of the pattern; may be given several times")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command.add_option("--seed", options.seed, "Of lengths, arrays and turns (default 1)")->type_name("S");
}

const CLI::App* add_tune(CLI::App& app, TuningArguments& arguments) {
  TuneCommandOptions& options = arguments.tune;
  CLI::App* command = app.add_subcommand("tune", "Find the fastest plan on this GPU, and remember it");
  add_tuned_batches(*command, arguments);
  command->add_option("--budget", options.budget, "Time for each workload (default 10s, with --effort full 60s)")
      ->type_name("TIME");
  command->add_option("--peers", options.peers, "Times of other systems, by workload name, to print beside ours")
      ->type_name("FILE.json");
  command->add_flag("--again", options.again, "Try what failed before, too");
  CLI::Option* pin = command->add_option("--pin", options.pin, "Take the plans of this file, whatever is measured")
                         ->type_name("PLAN.json");
  command->add_flag("--unpin", options.unpin, "Release what was pinned for the files' workloads")->excludes(pin);
  command->add_flag("--json", options.json, "Print one JSON object on stdout, and nothing else there");
  command->footer(kTuneHelp);
  return command;
}

/// `tune` starts it; nobody else does, so no list of commands has it.
const CLI::App* add_tune_worker(CLI::App& app, TuningArguments& arguments) {
  CLI::App* command = app.add_subcommand("tune-worker", "Measure for a tune command");
  add_tuned_batches(*command, arguments);
  command->group("");
  return command;
}

const CLI::App* add_explain(CLI::App& app, ExplainOptions& options) {
  CLI::App* command = app.add_subcommand("explain", "Say which plan this GPU takes for a workload, and why");
  command->add_option("file", options.file, "Workload")->type_name("FILE.attn")->required();
  command->add_flag("--json", options.json, "Print one JSON object on stdout, and nothing else there");
  command->footer(kExplainHelp);
  return command;
}

const CLI::App* add_report(CLI::App& app, ReportOptions& options) {
  CLI::App* command = app.add_subcommand("report", "Write an HTML page about what was tuned");
  command->add_option("-o,--output", options.output, "File to write (default report.html)")->type_name("FILE.html");
  command->footer(kReportHelp);
  return command;
}

}  // namespace

TuningCommands add_tuning_commands(CLI::App& app, TuningArguments& arguments) {
  return {.tune = add_tune(app, arguments),
          .tune_worker = add_tune_worker(app, arguments),
          .explain = add_explain(app, arguments.explain),
          .report = add_report(app, arguments.report)};
}

}  // namespace harrier
