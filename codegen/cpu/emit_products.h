// The matrix products of attention, forward and backward, as register blocks: vectors times broadcast elements.
//
// Matrices of the scratch are named by their offset there; they have queries in their lanes.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// S^T = K Q^T, or dP^T = V dO^T: result[key, q] = sum over dim of rows[key, dim] * operand[dim, q] for `key_count`
/// (i64) fp32 rows and the group's queries. Rows of the result up to the next whole register block may be overwritten
/// too.
struct ScoreProduct {
  Rows rows;
  int64_t dims;
  int64_t operand;  // [dims, row_lanes]
  int64_t result;   // [tile_k, row_lanes]
};
void emit_scores(RowEmitter& emitter, const ScoreProduct& product, llvm::Value* key_count, llvm::Value* group_lane);

/// O^T += V^T P^T, or dQ^T += K^T dS^T: sums[dim, q] += sum over key of rows[key, dim] * weights[key, q] for
/// `key_count` (i64) fp32 rows and the group's queries. `rescale`, where not empty, multiplies the sums first: a vector
/// for each of the group's.
struct QueryProduct {
  Rows rows;
  int64_t dims;     // a multiple of the plan's value_block
  int64_t weights;  // [tile_k, row_lanes]
  int64_t sums;     // [dims, row_lanes]
};
void emit_query_update(RowEmitter& emitter, const QueryProduct& product, llvm::Value* key_count,
                       llvm::Value* group_lane, const Values& rescale);

/// dV += P^T dO, or dK += dS^T Q: sums[key, dim] += sum over q of weights[key, q] * rows[q, dim] for `key_count` (i64)
/// keys and all of the row's queries. `sums` and `rows` are fp32 rows in memory.
struct KeyProduct {
  Rows rows;
  int64_t dims;     // a multiple of 8
  int64_t weights;  // [tile_k, row_lanes]
  Rows sums;
};
void emit_key_update(RowEmitter& emitter, const KeyProduct& product, llvm::Value* key_count);

}  // namespace harrier
