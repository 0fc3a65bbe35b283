// LLVM ORC: a module in, a function pointer out.
#pragma once

#include <llvm/ExecutionEngine/Orc/ThreadSafeModule.h>

#include <memory>
#include <string>

#include "ir/launch.h"
#include "ir/plan.h"

namespace harrier {

/// A compiled module. Keeps its code alive; the function may be called from any number of threads.
class CpuFunction {
 public:
  CpuFunction(std::shared_ptr<void> code, CpuRowFunction function) : code_(std::move(code)), function_(function) {}
  void operator()(const RowArguments& arguments) const { function_(&arguments); }

 private:
  std::shared_ptr<void> code_;
  CpuRowFunction function_;
};

/// Optimises and compiles `module` for `target` and finds `name` in it. Throws ToolchainError with LLVM's words.
CpuFunction jit_compile(llvm::orc::ThreadSafeModule module, const CpuTarget& target, const std::string& name);

}  // namespace harrier
