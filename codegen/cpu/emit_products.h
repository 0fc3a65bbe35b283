// The two matrix products of attention as register blocks: vectors of queries times broadcast elements of K and V.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// S^T = K Q^T for `key_count` (i64) keys of `keys` (fp32 rows) and the group's queries, into the scratch's scores.
/// Rows of the scores up to the next whole register block may be overwritten too.
void emit_scores(RowEmitter& emitter, const Rows& keys, llvm::Value* key_count, llvm::Value* group_lane);

/// O^T = O^T * rescale + V^T P^T over `key_count` (i64) keys of `values` (fp32 rows); P^T is in the scratch's scores,
/// `rescale` a vector for each of the group's.
void emit_output_update(RowEmitter& emitter, const Rows& values, llvm::Value* key_count, llvm::Value* group_lane,
                        const Values& rescale);

}  // namespace harrier
