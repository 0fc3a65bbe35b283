// The command line of `harrier export`.
#include <CLI/CLI.hpp>

#include "cli/export_command.h"

namespace harrier {
namespace {

constexpr const char* kExportHelp =
    R"(Compiles kernels ahead of time, for programs that have no compiler: needs NVRTC, no GPU. The folder appears whole or
not at all; an earlier export in it is replaced, any other file in it is an error.

--format c: a C11 source with the machine code, its header, CMake files. The program needs libcuda, nothing else.
--format pack: one file that load_pack (compiler/export/pack.h) reads, for programs that link Harrier but have no NVRTC.
--format fatbin: the machine code alone, for CUDA's own tools; needs the toolkit's fatbinary.
Architectures: sm_80, sm_86, sm_89, sm_90a, ... are machine code; compute_80 is text that any later driver compiles;
native is the GPU of this machine.
Plans that `harrier tune` measured for a workload, on a GPU of that architecture and for any lengths, are taken from the
cache: the fewest that stay within 5 % of the best for every length that was tuned; what is pinned stands alone there.
The rest gets default plans. --no-tunings makes exports the same everywhere.
--candidates: the same from a file:
  [{"workload": "window", "buckets": [[1024, 1024, 64], [16384, 16384, 64]],
    "candidates": [{"architecture": "sm_90a", "choice": "family=0 consumers=2 ...", "us": [12.5, 310.0]}, ...]}]

Examples:
  harrier export window.attn -o kernels
  harrier export window.attn bigbird.attn --arch sm_90a,native -o kernels --name my_kernels)";

}  // namespace

CLI::App* add_export(CLI::App& app, ExportCommandOptions& options) {
  CLI::App* command = app.add_subcommand("export", "Compile kernels ahead of time, for programs without a compiler");
  command->add_option("files", options.files, "Workloads")->type_name("FILE.attn")->required();
  command->add_option("--arch", options.architectures, "Architectures (default sm_80,sm_90a,compute_80)")
      ->type_name("sm_NN,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("-o,--output", options.folder, "Folder to make")->type_name("DIR")->required();
  command->add_option("--format", options.format, "c, pack or fatbin (default c)")->type_name("NAME");
  command->add_option("--name", options.name, "Of files and C functions (default harrier_kernels)")->type_name("NAME");
  CLI::Option* candidates =
      command->add_option("--candidates", options.candidates, "Measured plans to choose from, instead of tunings")
          ->type_name("FILE.json");
  command->add_flag("--no-tunings", options.no_tunings, "Default plans, whatever was tuned here")->excludes(candidates);
  command->add_flag("--json", options.json, "Print one JSON object on stdout, and nothing else there");
  command->footer(kExportHelp);
  return command;
}

}  // namespace harrier
