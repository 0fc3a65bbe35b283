// Gradients of the float arrays that a score reads: each pair adds to the elements that it loaded.
//
// A load whose index is the same for all keys gathers in the scratch, a number for each query, and is added to its
// element once a row. Any other load is added pair by pair. A row whose caller wants no gradient of an array skips it.
#pragma once

#include "codegen/cpu/emit_backward.h"
#include "codegen/cpu/tile_scores.h"

namespace harrier {

/// One vector of pairs, with the gradient of their scores and their weights (0: hidden, the score does not count).
struct PairGradients {
  llvm::Value* dot;
  llvm::Value* key;       // i32
  llvm::Value* d_scores;  // natural units
  llvm::Value* weights;
  llvm::Value* first_lane;  // i64, of the vector in the row
  int vector;               // of the group
};

/// Sets what gathers over the row to 0.
void emit_array_gradient_start(RowEmitter& emitter);

/// Makes the parts of slopes and indices that do not vary by key. Call it where `scores` is made.
void hoist_array_gradients(RowEmitter& emitter, TileScores& scores);

void emit_array_gradients(RowEmitter& emitter, const BackwardRow& backward, TileScores& scores,
                          const PairGradients& pairs);

/// Adds what gathered over the row, and the gradient of the sink logits.
void emit_array_gradient_end(RowEmitter& emitter, const BackwardRow& backward);

}  // namespace harrier
