// `harrier export`: kernels compiled ahead of time.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"

namespace CLI {
class App;
}

namespace harrier {

struct ExportCommandOptions {
  std::vector<std::string> files;
  std::vector<std::string> architectures = {"sm_80", "sm_90a", "compute_80"};
  std::string folder;
  std::string format = "c";
  std::string name = "harrier_kernels";
  std::string candidates;  // JSON file of measured plans, instead of what tuning left in the cache
  bool no_tunings = false;
  bool json = false;
};

int export_command(const ExportCommandOptions& options, Streams& streams);

CLI::App* add_export(CLI::App& app, ExportCommandOptions& options);

}  // namespace harrier
