#include "codegen/cpu/transposed_rows.h"

#include "ir/error.h"

namespace harrier {
namespace {

/// for blocks of `lanes` head dims: body(first dim). The last block is moved back so as not to pass the end; dims done
/// twice do no harm.
void for_each_dim_block(KernelBuilder& builder, int64_t dims, const std::function<void(llvm::Value* first_dim)>& body) {
  HARRIER_CHECK(dims >= builder.lanes, "a head dim is at least one vector");
  builder.loop(
      builder.int64(0), builder.int64(dims), builder.lanes, {},
      [&](llvm::Value* dim, std::span<llvm::Value* const>) {
        body(builder.smaller_int(dim, builder.int64(dims - builder.lanes)));
        return Values{};
      },
      "dim_block");
}

}  // namespace

llvm::Value* group_end(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* count = ir.CreateSExt(emitter.query_count, builder.i64);
  llvm::Value* lanes = builder.int64(emitter.group_lanes());
  llvm::Value* groups = ir.CreateUDiv(ir.CreateAdd(count, builder.int64(emitter.group_lanes() - 1)), lanes);
  return ir.CreateMul(groups, lanes);
}

void fill(RowEmitter& emitter, int64_t offset, int64_t floats, llvm::Value* value) {
  KernelBuilder& builder = emitter.builder;
  llvm::Value* base = emitter.scratch_at(offset);
  builder.loop(
      builder.int64(0), builder.int64(floats), builder.lanes, {},
      [&](llvm::Value* index, std::span<llvm::Value* const>) {
        builder.store_floats(value, base, index);
        return Values{};
      },
      "fill");
}

void load_transposed(RowEmitter& emitter, const Rows& rows, int64_t dims, llvm::Value* scale, int64_t offset) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const DataType dtype = emitter.source.shape.dtype;
  const int lanes = builder.lanes;
  llvm::Type* stored = storage_type(builder, dtype);
  llvm::Value* last_query = ir.CreateSub(ir.CreateSExt(emitter.query_count, builder.i64), builder.int64(1));
  llvm::Value* transposed = emitter.scratch_at(offset);
  builder.loop(
      builder.int64(0), group_end(emitter), lanes, {},
      [&](llvm::Value* first_lane, std::span<llvm::Value* const>) {
        for_each_dim_block(builder, dims, [&](llvm::Value* first_dim) {
          const auto query_row = [&](llvm::Value* row) {
            llvm::Value* query = builder.smaller_int(ir.CreateAdd(first_lane, row), last_query);
            llvm::Value* element = ir.CreateAdd(ir.CreateMul(query, rows.row_stride), first_dim);
            return load_widened(builder, dtype, builder.at(rows.base, element, stored), lanes);
          };
          const auto store_dim = [&](llvm::Value* column, llvm::Value* queries) {
            llvm::Value* dim = ir.CreateAdd(first_dim, column);
            llvm::Value* index = ir.CreateAdd(ir.CreateMul(dim, builder.int64(emitter.layout.row_lanes)), first_lane);
            builder.store_floats(scale == nullptr ? queries : ir.CreateFMul(queries, scale), transposed, index);
          };
          emit_transpose(builder, emitter.scratch_at(emitter.layout.transpose), query_row, store_dim);
        });
        return Values{};
      },
      "load_transposed");
}

llvm::Value* narrowed(KernelBuilder& builder, DataType dtype, llvm::Value* value) {
  llvm::IRBuilder<>& ir = builder.ir;
  const auto* floats = llvm::cast<llvm::FixedVectorType>(value->getType());
  const auto vector_of = [&](llvm::Type* type) { return llvm::FixedVectorType::get(type, floats->getNumElements()); };
  if (dtype == DataType::kFloat32) return value;
  if (dtype == DataType::kFloat16) return ir.CreateFPTrunc(value, vector_of(ir.getHalfTy()));
  llvm::Type* integers = vector_of(builder.i32);
  const auto number = [&](int64_t n) { return llvm::ConstantInt::get(integers, static_cast<uint64_t>(n)); };
  llvm::Value* bits = ir.CreateBitCast(value, integers);
  llvm::Value* upper = ir.CreateLShr(bits, number(16));
  llvm::Value* rounding = ir.CreateAdd(number(0x7fff), ir.CreateAnd(upper, number(1)));
  llvm::Value* rounded = ir.CreateLShr(ir.CreateAdd(bits, rounding), number(16));
  llvm::Value* quiet_nan = ir.CreateOr(upper, number(0x40));
  llvm::Value* result = ir.CreateSelect(ir.CreateFCmpUNO(value, value), quiet_nan, rounded);
  return ir.CreateTrunc(result, vector_of(ir.getInt16Ty()));
}

void store_transposed(RowEmitter& emitter, const Rows& rows, int64_t dims, int64_t offset,
                      const std::function<llvm::Value*(llvm::Value* first_lane)>& factor) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const DataType dtype = emitter.source.shape.dtype;
  const int lanes = builder.lanes;
  llvm::Type* stored = storage_type(builder, dtype);
  llvm::Value* count = ir.CreateSExt(emitter.query_count, builder.i64);
  llvm::Value* transposed = emitter.scratch_at(offset);
  builder.loop(
      builder.int64(0), count, lanes, {},
      [&](llvm::Value* first_lane, std::span<llvm::Value* const>) {
        llvm::Value* factors = factor(first_lane);
        for_each_dim_block(builder, dims, [&](llvm::Value* first_dim) {
          llvm::Value* block = emitter.scratch_at(emitter.layout.block);
          const auto output_dim = [&](llvm::Value* row) {
            llvm::Value* dim = ir.CreateAdd(first_dim, row);
            llvm::Value* index = ir.CreateAdd(ir.CreateMul(dim, builder.int64(emitter.layout.row_lanes)), first_lane);
            return ir.CreateFMul(builder.load_floats(transposed, index), factors);
          };
          emit_transpose(builder, emitter.scratch_at(emitter.layout.transpose), output_dim,
                         [&](llvm::Value* query, llvm::Value* elements) {
                           builder.store_floats(elements, block, ir.CreateMul(query, builder.int64(lanes)));
                         });
          llvm::Value* queries_left = builder.smaller_int(builder.int64(lanes), ir.CreateSub(count, first_lane));
          builder.loop(
              builder.int64(0), queries_left, 1, {},
              [&](llvm::Value* query, std::span<llvm::Value* const>) {
                llvm::Value* elements = builder.load_floats(block, ir.CreateMul(query, builder.int64(lanes)));
                llvm::Value* row = ir.CreateMul(ir.CreateAdd(first_lane, query), rows.row_stride);
                llvm::Value* address = builder.at(rows.base, ir.CreateAdd(row, first_dim), stored);
                ir.CreateAlignedStore(narrowed(builder, dtype, elements), address,
                                      llvm::Align(static_cast<uint64_t>(bytes_of(dtype))));
                return Values{};
              },
              "store_row");
        });
        return Values{};
      },
      "store_transposed");
}

}  // namespace harrier
