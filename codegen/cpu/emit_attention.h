// Emits the CPU kernel of one workload as an LLVM module: a function that computes one row (query tile) against its key
// runs, forward or backward as the shape's direction says.
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
  ScoreSlopes slopes = {};  // of a backward kernel
};

/// Names of the functions in the module; types in ir/launch.h. Forward: the first, a CpuRowFunction. Backward: the
/// first, a CpuBackwardRowFunction, and a CpuNarrowFunction.
inline constexpr const char* kCpuRowFunctionName = "harrier_attention_row";
inline constexpr const char* kCpuNarrowFunctionName = "harrier_narrow";

/// The same source gives the same module. Throws InternalError when the plan breaks its own limits.
llvm::orc::ThreadSafeModule emit_attention(const CpuKernelSource& source, const CpuTarget& target);

/// Floats of scratch that one thread needs for the kernel.
int64_t scratch_floats(const CpuKernelSource& source);

/// The module as readable text.
std::string emit_attention_text(const CpuKernelSource& source, const CpuTarget& target);

}  // namespace harrier
