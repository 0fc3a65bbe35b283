// Rows of memory to and from the scratch's matrices, which have queries in their lanes.
#pragma once

#include <functional>

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// Lanes of the row's queries, rounded up to whole groups (i64): whole groups are computed, so lanes past the last
/// query need finite contents too.
llvm::Value* group_end(RowEmitter& emitter);

/// The row's queries of `rows` (elements of the dtype), transposed into the scratch: [dims, row_lanes] at `offset`.
/// `scale`, where not null, is a vector that multiplies them. Lanes past the last query repeat it.
void load_transposed(RowEmitter& emitter, const Rows& rows, int64_t dims, llvm::Value* scale, int64_t offset);

/// And back: [dims, row_lanes] at `offset` of the scratch into `rows`, rounded to the dtype. `factor` gives the vector
/// that multiplies the queries from a lane on.
void store_transposed(RowEmitter& emitter, const Rows& rows, int64_t dims, int64_t offset,
                      const std::function<llvm::Value*(llvm::Value* first_lane)>& factor);

/// Floats rounded to nearest even in `dtype`, ready to store; a vector of any width.
llvm::Value* narrowed(KernelBuilder& builder, DataType dtype, llvm::Value* value);

/// Fills `floats` floats at `offset` of the scratch with the lanes of `value`.
void fill(RowEmitter& emitter, int64_t offset, int64_t floats, llvm::Value* value);

}  // namespace harrier
