// LLVM ORC: a module in, function pointers out.
#pragma once

#include <llvm/ExecutionEngine/Orc/ThreadSafeModule.h>

#include <memory>
#include <string>
#include <utility>

#include "ir/plan.h"

namespace llvm::orc {
class LLJIT;
}

namespace harrier {

/// A compiled module. Cheap to copy; keeps its code alive. Its functions may be called from any number of threads.
class CpuModule {
 public:
  explicit CpuModule(std::shared_ptr<llvm::orc::LLJIT> jit) : jit_(std::move(jit)) {}

  /// The function `name`, whose type the caller knows; the first call compiles the module. Throws ToolchainError with
  /// LLVM's words.
  template <typename Function>
  Function function(const std::string& name) const {
    return reinterpret_cast<Function>(address_of(name));
  }

 private:
  void* address_of(const std::string& name) const;

  std::shared_ptr<llvm::orc::LLJIT> jit_;
};

/// Optimises `module` for `target`. Throws ToolchainError with LLVM's words.
CpuModule jit_compile(llvm::orc::ThreadSafeModule module, const CpuTarget& target);

}  // namespace harrier
