// `harrier emit`: what the compiler makes of a pattern.
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/output_file.h"
#include "cli/workload_file.h"
#include "compiler/harrier.h"
#include "compiler/passes/simplify.h"

namespace harrier {

int emit_command(const EmitOptions& options, Streams& streams) {
  const Workload workload = read_workload(options.file);
  const std::string text =
      options.llvm ? compile(workload).llvm_ir() : canonical_text(simplify(workload.pattern), workload.shape) + "\n";
  if (!options.output.empty()) write_text_file(options.output, text);
  if (options.json) {
    nlohmann::ordered_json json = {
        {"command", "emit"}, {"kind", options.llvm ? "llvm" : "canonical"}, {"file", options.file}};
    json[options.output.empty() ? "text" : "output"] = options.output.empty() ? text : options.output;
    print_json(json, streams.out);
  } else if (options.output.empty()) {
    streams.out << text;
  }
  return kSuccess;
}

}  // namespace harrier
