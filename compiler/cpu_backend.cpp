#include "compiler/cpu_backend.h"

#include <chrono>

#include "codegen/cpu/emit_attention.h"
#include "codegen/cpu/scratch_layout.h"
#include "runtime/cpu/cpu_jit.h"
#include "runtime/cpu/cpu_target.h"

namespace harrier {
namespace {

CpuKernelSource kernel_source(const Compilation& compilation) {
  return {.lowered = compilation.lowered, .shape = compilation.workload.shape, .plan = compilation.plan};
}

}  // namespace

CpuCode compile_for_cpu(const Compilation& compilation, std::vector<PassTime>& times) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  };
  const Clock::time_point emit_start = Clock::now();
  llvm::orc::ThreadSafeModule module = emit_attention(kernel_source(compilation), compilation.target);
  times.push_back({"emit", since(emit_start)});

  const Clock::time_point jit_start = Clock::now();
  CpuFunction function = jit_compile(std::move(module), compilation.target, kCpuRowFunctionName);
  times.push_back({"jit", since(jit_start)});
  return {.row_function = function,
          .scratch_floats = scratch_layout(compilation.workload.shape, compilation.plan).floats};
}

std::string cpu_kernel_text(const Compilation& compilation) {
  return emit_attention_text(kernel_source(compilation), compilation.target);
}

CpuTarget host_target() { return host_cpu_target(); }

}  // namespace harrier
