#include "compiler/compiled_kernel.h"
#include "compiler/cpu_backend.h"
#include "compiler/harrier.h"
#include "compiler/single_flight.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

/// A kernel with everything but its code.
CompiledKernel prepare(const Workload& workload, const CompileOptions& options) {
  verify(workload);
  CompiledKernel kernel;
  kernel.threads = options.threads;
  kernel.compilation.workload = workload;
  for (const ArrayUse& use : array_uses(workload.pattern)) kernel.compilation.array_names.push_back(use.name);
  kernel.compilation.target = options.target.triple.empty() ? host_target() : options.target;
  PassObserver observer = options.observer;
  observer.times = &kernel.compile_times;
  run_passes(compile_passes(), kernel.compilation, observer);
  return kernel;
}

/// Everything that the compiled function depends on; numbers of the pattern are arguments and not part of it.
std::string structure_key(const Compilation& compilation) {
  const char* padding = compilation.lowered.additive_padding ? "additive padding\n" : "";
  return structural_text(compilation.lowered) + padding + print(compilation.workload.shape) + print(compilation.plan) +
         compilation.target.cpu + compilation.target.features;
}

}  // namespace

Kernel compile(const Workload& workload, const CompileOptions& options) {
  CompiledKernel kernel = prepare(workload, options);
  kernel.code = std::make_shared<const CpuCode>(compile_for_cpu(kernel.compilation, kernel.compile_times));
  return Kernel(std::make_shared<const CompiledKernel>(std::move(kernel)));
}

struct Compiler::Cache {
  SingleFlight<CpuCode> code;
};

Compiler::Compiler(CompileOptions options) : cache_(std::make_shared<Cache>()), options_(std::move(options)) {}

Kernel Compiler::compile(const Workload& workload) {
  CompiledKernel kernel = prepare(workload, options_);
  kernel.code = cache_->code.get(structure_key(kernel.compilation), [&] {
    return std::make_shared<const CpuCode>(compile_for_cpu(kernel.compilation, kernel.compile_times));
  });
  return Kernel(std::make_shared<const CompiledKernel>(std::move(kernel)));
}

int64_t Compiler::compilations() const { return cache_->code.made(); }

}  // namespace harrier
