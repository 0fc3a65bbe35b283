// The walk over key runs: scores, online softmax and output update of one key tile after another.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// Folds every run of the row into the scratch's outputs, row_max, row_sum (and visible_keys under pruned_as_zero).
void emit_runs(RowEmitter& emitter, llvm::Value* runs, llvm::Value* run_count);

}  // namespace harrier
