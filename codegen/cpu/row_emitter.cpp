#include "codegen/cpu/row_emitter.h"

#include <llvm/IR/Constants.h>

#include "ir/error.h"

namespace harrier {

Values RowEmitter::load_group(llvm::Value* base, llvm::Value* group_lane) {
  Values vectors;
  for (int v = 0; v < group_vectors(); ++v) {
    llvm::Value* lane = builder.ir.CreateAdd(group_lane, builder.int64(int64_t{v} * builder.lanes));
    vectors.push_back(builder.load_floats(base, lane));
  }
  return vectors;
}

void RowEmitter::store_group(const Values& vectors, llvm::Value* base, llvm::Value* group_lane) {
  for (size_t v = 0; v < vectors.size(); ++v) {
    llvm::Value* lane = builder.ir.CreateAdd(group_lane, builder.int64(static_cast<int64_t>(v) * builder.lanes));
    builder.store_floats(vectors[v], base, lane);
  }
}

Values RowEmitter::query_positions(llvm::Value* group_lane) {
  llvm::IRBuilder<>& ir = builder.ir;
  std::vector<uint32_t> lane_numbers;
  for (int lane = 0; lane < builder.lanes; ++lane) lane_numbers.push_back(static_cast<uint32_t>(lane));
  llvm::Value* lanes = llvm::ConstantDataVector::get(builder.module.getContext(), lane_numbers);
  llvm::Value* first = ir.CreateTrunc(group_lane, builder.i32);
  llvm::Value* last = builder.splat(ir.CreateSub(query_count, builder.int32(1)));
  Values positions;
  for (int v = 0; v < group_vectors(); ++v) {
    llvm::Value* start = ir.CreateAdd(first, builder.int32(int64_t{v} * builder.lanes));
    llvm::Value* lane = builder.smaller_int(ir.CreateAdd(builder.splat(start), lanes), last);
    positions.push_back(ir.CreateAdd(lane, builder.splat(query_begin)));
  }
  return positions;
}

void RowEmitter::for_each_group(const std::function<void(llvm::Value* group_lane)>& body) {
  builder.loop(
      builder.int64(0), builder.ir.CreateSExt(query_count, builder.i64), group_lanes(), {},
      [&](llvm::Value* group_lane, std::span<llvm::Value* const>) {
        body(group_lane);
        return Values{};
      },
      "group");
}

llvm::Type* storage_type(KernelBuilder& builder, DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return builder.f32;
    case DataType::kBFloat16:
      return builder.ir.getInt16Ty();
    case DataType::kFloat16:
      return builder.ir.getHalfTy();
  }
  raise_internal_error(__FILE__, __LINE__, "a dtype of unknown kind");
}

llvm::Value* load_widened(KernelBuilder& builder, DataType dtype, llvm::Value* address, int count) {
  llvm::IRBuilder<>& ir = builder.ir;
  const auto vector_of = [&](llvm::Type* type) {
    return llvm::FixedVectorType::get(type, static_cast<unsigned>(count));
  };
  llvm::Type* stored = storage_type(builder, dtype);
  llvm::Value* loaded =
      ir.CreateAlignedLoad(vector_of(stored), address, llvm::Align(static_cast<uint64_t>(bytes_of(dtype))));
  if (dtype == DataType::kFloat32) return loaded;
  if (dtype == DataType::kFloat16) return ir.CreateFPExt(loaded, vector_of(builder.f32));
  // bf16 is the upper half of an fp32.
  llvm::Value* wide = ir.CreateZExt(loaded, vector_of(builder.i32));
  return ir.CreateBitCast(ir.CreateShl(wide, llvm::ConstantInt::get(wide->getType(), 16)), vector_of(builder.f32));
}

Rows widened_rows(RowEmitter& emitter, const Rows& rows, llvm::Value* first_row, llvm::Value* row_count, int64_t dims,
                  int64_t scratch_offset) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const DataType dtype = emitter.source.shape.dtype;
  llvm::Type* stored = storage_type(builder, dtype);
  llvm::Value* begin = builder.at(rows.base, ir.CreateMul(first_row, rows.row_stride), stored);
  if (dtype == DataType::kFloat32) return {begin, rows.row_stride};

  constexpr int64_t kChunk = 8;  // head dims are multiples of 8
  const Rows wide{emitter.scratch_at(scratch_offset), builder.int64(dims)};
  builder.loop(
      builder.int64(0), row_count, 1, {},
      [&](llvm::Value* row, std::span<llvm::Value* const>) {
        llvm::Value* from = builder.at(begin, ir.CreateMul(row, rows.row_stride), stored);
        llvm::Value* to = builder.at(wide.base, ir.CreateMul(row, wide.row_stride), builder.f32);
        builder.loop(
            builder.int64(0), builder.int64(dims), kChunk, {},
            [&](llvm::Value* dim, std::span<llvm::Value* const>) {
              llvm::Value* chunk = load_widened(builder, dtype, builder.at(from, dim, stored), kChunk);
              ir.CreateAlignedStore(chunk, builder.at(to, dim, builder.f32), llvm::Align(4));
              return Values{};
            },
            "widen_dim");
        return Values{};
      },
      "widen_row");
  return wide;
}

}  // namespace harrier
