// The CPU backend as the compiler sees it: a compilation in, a row function out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "compiler/pass_list.h"
#include "compiler/pipeline.h"
#include "ir/launch.h"

namespace harrier {

/// The functions of one kernel, safe from several threads: the first of a forward kernel, the others of a backward one.
struct CpuCode {
  std::function<void(const RowArguments&)> row_function = {};                            // computes one row
  std::function<void(const BackwardRowArguments&)> backward_row_function = {};           // the same
  std::function<void(const float* from, void* to, int64_t count)> narrow_function = {};  // CpuNarrowFunction
  int64_t scratch_floats = 0;                                                            // for each thread
};

/// Emits and compiles; appends "emit" and "jit" to `times`. Throws ToolchainError where LLVM refuses or is not built
/// in.
CpuCode compile_for_cpu(const Compilation& compilation, std::vector<PassTime>& times);

/// The kernel's LLVM IR as text.
std::string cpu_kernel_text(const Compilation& compilation);

/// The machine we run on; see runtime/cpu/cpu_target.h.
CpuTarget host_target();

}  // namespace harrier
