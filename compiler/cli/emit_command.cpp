// `harrier emit`: what the compiler makes of a pattern.
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/output_file.h"
#include "cli/workload_file.h"
#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/harrier.h"
#include "compiler/passes/simplify.h"

namespace harrier {

namespace {

std::string text_of(const EmitOptions& options, const Workload& workload) {
  if (options.llvm) return compile(workload).llvm_ir();
  if (options.cuda) {
    CudaTarget target;
    target.architecture = options.architecture;
    return prepare_cuda(workload, target).source;
  }
  return canonical_text(simplify(workload.pattern), workload.shape) + "\n";
}

const char* kind_of(const EmitOptions& options) { return options.llvm ? "llvm" : options.cuda ? "cuda" : "canonical"; }

}  // namespace

int emit_command(const EmitOptions& options, Streams& streams) {
  const Workload workload = read_workload(options.file);
  const std::string text = text_of(options, workload);
  if (!options.output.empty()) write_text_file(options.output, text);
  if (options.json) {
    nlohmann::ordered_json json = {{"command", "emit"}, {"kind", kind_of(options)}, {"file", options.file}};
    json[options.output.empty() ? "text" : "output"] = options.output.empty() ? text : options.output;
    print_json(json, streams.out);
  } else if (options.output.empty()) {
    streams.out << text;
  }
  return kSuccess;
}

}  // namespace harrier
