// One backward call checked whole: gradients against the double-precision oracle, with poison around and inside the
// buffers.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "support/attention_case.h"

namespace harrier {

/// Largest errors, relative to max(1, |expected|), those of arrays to what their sums add up; infinity where an element
/// was not written or the poison came through.
struct BackwardErrors {
  double d_q = 0;
  double d_k = 0;
  double d_v = 0;
  double d_arrays = 0;
  bool canaries_intact = true;
  bool empty_is_zero = true;       // queries that see no key and keys that no query sees have gradients of exactly 0
  std::vector<uint8_t> gradients;  // all that was written, to compare runs bit by bit
};

/// Whose O and LSE the backward call reads: the oracle's, rounded, or those of a kernel for the same workload (which
/// takes as long to compile as the one under test).
enum class ForwardBy { kOracle, kKernel };

/// Compiles the case's workload with direction backward and runs it on random tensors and arrays.
BackwardErrors run_backward_case(const AttentionCase& test, const CompileOptions& options = {},
                                 ForwardBy forward_by = ForwardBy::kOracle);

/// The same on whatever runs it; O and LSE are the oracle's.
using RunBackward = std::function<void(const AttentionTensors&, const AttentionGradients&, const Bindings&)>;
BackwardErrors run_backward_case(const AttentionCase& test, const RunBackward& run);

/// What rounding of O and of the gradients to the workload's dtype may cost.
double backward_tolerance_of(DataType dtype);

}  // namespace harrier
