// tune, explain and report: plans that are found by measuring, and what is known of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace harrier {

struct TuneCommandOptions {
  std::vector<std::string> files;
  std::string lengths;           // CSV; instead of the files' own
  std::string budget;            // "30s"; empty: as the effort says
  std::string effort = "quick";  // or "full"
  std::string peers;             // JSON: times of other systems
  std::vector<BindOption> bindings;
  uint64_t seed = 1;
  bool again = false;  // also what is in quarantine
  std::string pin;     // JSON: a plan to take, instead of looking for one
  bool unpin = false;
  bool json = false;
};

struct ExplainOptions {
  std::string file;
  bool json = false;
};

struct ReportOptions {
  std::string output = "report.html";
};

int tune_command(const TuneCommandOptions& options, Streams& streams);
/// tune --pin and --unpin: nothing is run.
int pin_command(const TuneCommandOptions& options, Streams& streams);
/// Measures for a tune command of another process, which is at the other end of standard input and output.
int tune_worker_command(const TuneCommandOptions& options, Streams& streams);
int explain_command(const ExplainOptions& options, Streams& streams);
int report_command(const ReportOptions& options, Streams& streams);

/// "30s", "2m", "500ms", or seconds alone. Throws InvalidInput.
double seconds_of(const std::string& text);

}  // namespace harrier
