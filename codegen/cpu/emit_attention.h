// Emits the CPU kernel of one workload as an LLVM module: a function that computes one row (query tile) against its key
// runs.
//
// Queries sit in vector lanes: S^T[k][q] and O^T[d][q] are vectors over q, elements of K and V are broadcast from
// memory. So K and V are never repacked, the softmax statistics of a row tile are plain vectors, and any mask is
// evaluated for a vector of queries and one key.
#pragma once

#include <llvm/ExecutionEngine/Orc/ThreadSafeModule.h>

#include <string>

#include "ir/lowered.h"
#include "ir/plan.h"
#include "ir/workload.h"

namespace harrier {

struct CpuKernelSource {
  LoweredPattern lowered;
  Shape shape;
  CpuPlan plan;
};

/// Name of the function in the module; its type is CpuRowFunction (ir/launch.h).
inline constexpr const char* kCpuRowFunctionName = "harrier_attention_row";

/// The same source gives the same module. Throws InternalError when the plan breaks its own limits.
llvm::orc::ThreadSafeModule emit_attention(const CpuKernelSource& source, const CpuTarget& target);

/// The module as readable text.
std::string emit_attention_text(const CpuKernelSource& source, const CpuTarget& target);

}  // namespace harrier
