// What a Kernel holds.
#pragma once

#include <memory>
#include <vector>

#include "compiler/cpu_backend.h"
#include "compiler/harrier.h"

namespace harrier {

struct CompiledKernel {
  Compilation compilation;
  std::shared_ptr<const CpuCode> code;  // shared by kernels of equal structure
  std::vector<PassTime> compile_times;
  int threads = 0;
};

}  // namespace harrier
