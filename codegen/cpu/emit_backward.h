// The phases of a backward row. Queries stay in the vector lanes: P^T and the gradient of S^T are made tile by tile
// from the LSE of the forward pass; dQ^T gathers in the scratch; dK and dV are added to rows in memory, which other
// rows of work add to as well, each in its turn.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// What a backward row has beside a forward one.
struct BackwardRow {
  Rows d_outputs;  // elements of the shape's dtype
  Rows d_queries;  // the same
  Rows d_keys;     // fp32, key 0 of the sequence
  Rows d_values;   // fp32
  llvm::Value* d_arrays;
  llvm::Value* await_turn;
  llvm::Value* turn;
  // Rows of fp32, set by emit_backward_start: Q and dO as they lie in memory, or widened.
  Rows wide_queries = {};
  Rows wide_d_outputs = {};
};

/// Q^T and dO^T into the scratch, the row's LSE in base-2 units, delta = rowsum(dO * O); sums set to 0.
void emit_backward_start(RowEmitter& emitter, BackwardRow& backward);

/// Adds what every run of the row contributes.
void emit_backward_runs(RowEmitter& emitter, const BackwardRow& backward, llvm::Value* runs, llvm::Value* run_count);

/// dQ in the shape's dtype, and the gradients of arrays that gathered over the row.
void emit_backward_end(RowEmitter& emitter, const BackwardRow& backward);

}  // namespace harrier
