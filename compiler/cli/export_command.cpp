// `harrier export`: kernels compiled ahead of time.
#include "cli/export_command.h"

#include <fmt/core.h>
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/export_candidates.h"
#include "cli/json_text.h"
#include "cli/workload_file.h"
#include "compiler/export/tuned_candidates.h"
#include "compiler/harrier_export.h"
#include "ir/error.h"
#include "runtime/cuda/device.h"

namespace harrier {
namespace {

ExportFormat format_of(const std::string& name) {
  if (name == "c") return ExportFormat::kC;
  if (name == "pack") return ExportFormat::kPack;
  if (name == "fatbin") return ExportFormat::kFatbin;
  throw InvalidInput(fmt::format("--format {}: expected c, pack or fatbin", name));
}

/// `native` is what the first GPU here is.
std::vector<std::string> architectures_of(const std::vector<std::string>& names) {
  std::vector<std::string> architectures;
  for (const std::string& name : names) {
    if (name == "native") {
      architectures.push_back(cuda::architecture_of(cuda::find_devices(*cuda::load_driver()).front()));
    } else {
      architectures.push_back(name);
    }
  }
  return architectures;
}

void print_tunings(const std::vector<TunedExport>& tunings, Streams& streams) {
  for (const TunedExport& tuned : tunings) {
    fmt::print(streams.out, "{:<16} {:<11} from {} plans tuned on {} for {} batches of lengths{}\n", tuned.workload,
               tuned.architecture, tuned.candidates, tuned.device, tuned.lengths,
               tuned.of_other_version ? " by another version" : "");
  }
}

nlohmann::ordered_json json_of(const std::vector<TunedExport>& tunings) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const TunedExport& tuned : tunings) {
    json.push_back({{"workload", tuned.workload},
                    {"architecture", tuned.architecture},
                    {"device", tuned.device},
                    {"lengths", tuned.lengths},
                    {"candidates", tuned.candidates},
                    {"of_other_version", tuned.of_other_version}});
  }
  return json;
}

void print_report(const ExportReport& report, const ExportCommandOptions& options, Streams& streams) {
  for (const ExportedKernelReport& kernel : report.kernels) {
    fmt::print(streams.out, "{:<16} {:<11} {:>6.1f} KiB  {}\n", kernel.workload, kernel.architecture,
               static_cast<double>(kernel.bytes) / 1024.0, kernel.plan);
    for (const std::string& note : kernel.notes) fmt::print(streams.error, "harrier: note: {}\n", note);
  }
  fmt::print(streams.out, "{} files in {}\n", report.files.size(), options.folder);
}

void print_report_json(const ExportReport& report, const std::vector<TunedExport>& tunings,
                       const ExportCommandOptions& options, Streams& streams) {
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const ExportedKernelReport& kernel : report.kernels) {
    kernels.push_back({{"workload", kernel.workload},
                       {"architecture", kernel.architecture},
                       {"plan", kernel.plan},
                       {"bytes", kernel.bytes},
                       {"notes", kernel.notes}});
  }
  print_json({{"command", "export"},
              {"format", options.format},
              {"output", options.folder},
              {"files", report.files},
              {"tunings", json_of(tunings)},
              {"kernels", kernels}},
             streams.out);
}

}  // namespace

int export_command(const ExportCommandOptions& options, Streams& streams) {
  std::vector<ExportWorkload> workloads;
  for (const std::string& file : options.files) workloads.push_back({.workload = read_workload(file)});
  const std::vector<std::string> architectures = architectures_of(options.architectures);
  std::vector<TunedExport> tunings;
  if (!options.candidates.empty()) {
    add_candidates(options.candidates, workloads);
  } else if (!options.no_tunings) {
    // Looking makes no folder and heals nothing.
    tunings = add_tuned_candidates(*open_store({.read_only = true}), architectures, workloads);
  }
  const ExportReport report = export_kernels(workloads, cuda::load_nvrtc(),
                                             {.architectures = architectures,
                                              .format = format_of(options.format),
                                              .folder = options.folder,
                                              .name = options.name});
  if (options.json) {
    print_report_json(report, tunings, options, streams);
  } else {
    print_tunings(tunings, streams);
    print_report(report, options, streams);
  }
  return kSuccess;
}

}  // namespace harrier
