#include "compiler/cpu_backend.h"

#include <chrono>

#include "codegen/cpu/emit_attention.h"
#include "runtime/cpu/cpu_jit.h"
#include "runtime/cpu/cpu_target.h"

namespace harrier {
namespace {

CpuKernelSource kernel_source(const Compilation& compilation) {
  return {.lowered = compilation.lowered,
          .shape = compilation.workload.shape,
          .plan = compilation.plan,
          .slopes = compilation.slopes};
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
  const CpuModule code = jit_compile(std::move(module), compilation.target);
  CpuCode kernel{.scratch_floats = scratch_floats(kernel_source(compilation))};
  // Each function holds the module that its code is in.
  if (compilation.workload.shape.direction == Direction::kForward) {
    kernel.row_function = [code, row = code.function<CpuRowFunction>(kCpuRowFunctionName)](
                              const RowArguments& arguments) { row(&arguments); };
  } else {
    kernel.backward_row_function = [code, row = code.function<CpuBackwardRowFunction>(kCpuRowFunctionName)](
                                       const BackwardRowArguments& arguments) { row(&arguments); };
    kernel.narrow_function = [code, narrow = code.function<CpuNarrowFunction>(kCpuNarrowFunctionName)](
                                 const float* from, void* to, int64_t count) { narrow(from, to, count); };
  }
  times.push_back({"jit", since(jit_start)});
  return kernel;
}

std::string cpu_kernel_text(const Compilation& compilation) {
  return emit_attention_text(kernel_source(compilation), compilation.target);
}

CpuTarget host_target() { return host_cpu_target(); }

}  // namespace harrier
