// One backward call checked whole: gradients against the double-precision oracle, with poison around and inside the
// buffers.
#pragma once

#include <cstdint>
#include <vector>

#include "support/attention_case.h"

namespace harrier {

/// Largest errors, relative to max(1, |expected|); infinity where an element was not written or the poison came
/// through.
struct BackwardErrors {
  double d_q = 0;
  double d_k = 0;
  double d_v = 0;
  double d_arrays = 0;
  bool canaries_intact = true;
  bool empty_is_zero = true;       // queries that see no key and keys that no query sees have gradients of exactly 0
  std::vector<uint8_t> gradients;  // all that was written, to compare runs bit by bit
};

/// Compiles the case's workload in both directions, runs forward and backward on random tensors and arrays.
BackwardErrors run_backward_case(const AttentionCase& test, const CompileOptions& options = {});

/// What rounding of O and of the gradients to the workload's dtype may cost.
double backward_tolerance_of(DataType dtype);

}  // namespace harrier
