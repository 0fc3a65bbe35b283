// The walk over key runs: scores, online softmax and output update of one key tile after another.
#pragma once

#include <optional>

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// Folds every run of the row into the scratch's outputs, row_max, row_sum (and visible_keys under pruned_as_zero).
void emit_runs(RowEmitter& emitter, llvm::Value* runs, llvm::Value* run_count);

/// The parameter p of a score that is just `s * p` (the usual scale), which is folded into Q; nothing for any other
/// score.
std::optional<Parameter> pure_scale(const Expression& score);

}  // namespace harrier
