// The command line of tune, explain and report.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/tuning_commands.h"

namespace harrier {

/// What CLI11 fills in.
struct TuningArguments {
  TuneCommandOptions tune;
  ExplainOptions explain;
  ReportOptions report;
  std::vector<std::string> tune_bindings;  // "NAME=FILE"
};

struct TuningCommands {
  const CLI::App* tune;
  const CLI::App* tune_worker;
  const CLI::App* explain;
  const CLI::App* report;
};

TuningCommands add_tuning_commands(CLI::App& app, TuningArguments& arguments);

}  // namespace harrier
