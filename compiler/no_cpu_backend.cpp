// Stands in for cpu_backend.cpp where Harrier is built without LLVM.
#include "compiler/cpu_backend.h"
#include "ir/error.h"
#include "runtime/cpu/cpu_target.h"

namespace harrier {
namespace {

[[noreturn]] void refuse() {
  throw ToolchainError("this build has no CPU backend (HARRIER_LLVM=OFF): configure with -DHARRIER_LLVM=ON");
}

}  // namespace

CpuCode compile_for_cpu(const Compilation& /*compilation*/, std::vector<PassTime>& /*times*/) { refuse(); }

std::string cpu_kernel_text(const Compilation& /*compilation*/) { refuse(); }

CpuTarget host_target() { return host_cpu_target(); }

}  // namespace harrier
