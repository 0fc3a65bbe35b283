// What the phases of the CPU kernel share while one row function is emitted.
#pragma once

#include "codegen/cpu/emit_attention.h"
#include "codegen/cpu/emit_expression.h"
#include "codegen/cpu/kernel_builder.h"
#include "codegen/cpu/scratch_layout.h"

namespace harrier {

/// A matrix in memory: rows of `row_stride` elements (i64).
struct Rows {
  llvm::Value* base;
  llvm::Value* row_stride;
};

struct RowEmitter {
  KernelBuilder& builder;
  const CpuKernelSource& source;
  ScratchLayout layout;
  RowValues row;

  llvm::Value* scratch;
  Rows queries;  // elements of the shape's dtype
  Rows keys;
  Rows values;
  Rows outputs;
  Rows lse;                  // floats, one a row
  llvm::Value* query_begin;  // i32
  llvm::Value* query_count;  // i32

  /// Queries are worked on in groups of `q_vectors` vectors.
  int group_vectors() const { return source.plan.q_vectors; }
  int64_t group_lanes() const { return int64_t{source.plan.q_vectors} * source.plan.vector_lanes; }

  /// Address of float `offset` of the scratch.
  llvm::Value* scratch_at(int64_t offset) { return builder.at(scratch, builder.int64(offset), builder.f32); }

  /// The vectors of `group_lane` at a [row_lanes] row of the scratch, and back.
  Values load_group(llvm::Value* base, llvm::Value* group_lane);
  void store_group(const Values& vectors, llvm::Value* base, llvm::Value* group_lane);

  /// Position of each query of the group, one i32 vector for each of its vectors. Lanes past the row's last query
  /// repeat it, so that no index made from them leaves an array.
  Values query_positions(llvm::Value* group_lane);

  /// for (group_lane = 0; group_lane < query_count; group_lane += group_lanes) body(group_lane)
  void for_each_group(const std::function<void(llvm::Value* group_lane)>& body);
};

/// `lanes` (or 8) elements of `dtype` at `address` as floats.
llvm::Value* load_widened(KernelBuilder& builder, DataType dtype, llvm::Value* address, int count);

/// The LLVM type that `dtype` is stored as.
llvm::Type* storage_type(KernelBuilder& builder, DataType dtype);

/// `row_count` rows of `rows` (elements of the dtype) from `first_row` on (both i64) as fp32 rows: in place, or widened
/// into the scratch at `scratch_offset`.
Rows widened_rows(RowEmitter& emitter, const Rows& rows, llvm::Value* first_row, llvm::Value* row_count, int64_t dims,
                  int64_t scratch_offset);

}  // namespace harrier
