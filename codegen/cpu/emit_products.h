// The two matrix products of attention as register blocks: vectors of queries times broadcast elements of K and V.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// S^T block = K Q^T: for rows `key_rows` (i64) of `keys` (fp32) and the group's queries. Gives one accumulator for
/// each key and vector of the group, those of one key together.
Values emit_score_block(RowEmitter& emitter, const Rows& keys, const Values& key_rows, llvm::Value* group_lane);

/// O^T = O^T * rescale + V^T P^T over `key_count` (i64) keys of `values` (fp32 rows); P^T is in the scratch's scores,
/// `rescale` a vector for each of the group's.
void emit_output_update(RowEmitter& emitter, const Rows& values, llvm::Value* key_count, llvm::Value* group_lane,
                        const Values& rescale);

}  // namespace harrier
