#include "codegen/cpu/emit_ends.h"

#include <cstddef>

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/emit_tiles.h"
#include "ir/error.h"
#include "ir/launch.h"

namespace harrier {
namespace {

llvm::Value* group_end(RowEmitter& emitter) {
  // Whole groups are computed, so lanes past the last query need finite contents too.
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* count = ir.CreateSExt(emitter.query_count, builder.i64);
  llvm::Value* lanes = builder.int64(emitter.group_lanes());
  llvm::Value* groups = ir.CreateUDiv(ir.CreateAdd(count, builder.int64(emitter.group_lanes() - 1)), lanes);
  return ir.CreateMul(groups, lanes);
}

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

void load_queries(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const Shape& shape = emitter.source.shape;
  const int lanes = builder.lanes;
  llvm::Type* stored = storage_type(builder, shape.dtype);
  llvm::Value* scale = nullptr;
  if (const std::optional<Parameter> folded = pure_scale(emitter.source.lowered.score)) {
    llvm::Value* address = builder.at(emitter.row.float_parameters, builder.int64(folded->index), builder.f32);
    scale = builder.splat(ir.CreateFMul(ir.CreateLoad(builder.f32, address), builder.float32(kLog2E)));
  }
  llvm::Value* last_query = ir.CreateSub(ir.CreateSExt(emitter.query_count, builder.i64), builder.int64(1));
  llvm::Value* transposed = emitter.scratch_at(emitter.layout.queries);
  builder.loop(
      builder.int64(0), group_end(emitter), lanes, {},
      [&](llvm::Value* first_lane, std::span<llvm::Value* const>) {
        for_each_dim_block(builder, shape.head_dim, [&](llvm::Value* first_dim) {
          const auto query_row = [&](llvm::Value* row) {
            llvm::Value* query = builder.smaller_int(ir.CreateAdd(first_lane, row), last_query);
            llvm::Value* element = ir.CreateAdd(ir.CreateMul(query, emitter.queries.row_stride), first_dim);
            return load_widened(builder, shape.dtype, builder.at(emitter.queries.base, element, stored), lanes);
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
      "load_queries");
}

/// Denominator and numerator may be measured from a larger maximum once more terms join the denominator.
struct Statistics {
  llvm::Value* max;     // base-2 units
  llvm::Value* sum;     // sum of exp2(s - max)
  llvm::Value* shrink;  // factor on O that the change of maximum asks for
};

/// Adds `weight` * exp2(`extra`) to the denominator.
Statistics with_term(KernelBuilder& builder, const Statistics& old, llvm::Value* extra, llvm::Value* weight) {
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* max = builder.larger(old.max, extra);
  llvm::Value* shrink = emit_exp2_nonpositive(builder, ir.CreateFSub(old.max, max));
  llvm::Value* term = ir.CreateFMul(weight, emit_exp2_nonpositive(builder, ir.CreateFSub(extra, max)));
  return {max, builder.multiply_add(old.sum, shrink, term), shrink};
}

Statistics finished_statistics(RowEmitter& emitter, const Statistics& row, llvm::Value* visible_keys) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const LoweredPattern& lowered = emitter.source.lowered;
  switch (lowered.softmax) {
    case SoftmaxKind::kStandard:
      return row;
    case SoftmaxKind::kPrunedAsZero: {
      llvm::Value* keys = builder.splat(ir.CreateSIToFP(emitter.row.key_length, builder.f32));
      llvm::Value* pruned = ir.CreateFSub(keys, visible_keys);
      // Without pruned keys the maximum must stay: measuring scores far below 0 from 0 would lose them.
      Statistics all = with_term(builder, row, builder.splat_float(0.0), pruned);
      llvm::Value* any = ir.CreateFCmpOGT(pruned, builder.splat_float(0.0));
      return {ir.CreateSelect(any, all.max, row.max), ir.CreateSelect(any, all.sum, row.sum),
              ir.CreateSelect(any, all.shrink, row.shrink)};
    }
    case SoftmaxKind::kSinkLogit: {
      const int slot = array_slot(lowered, lowered.sink_logits);
      llvm::Value* array = builder.at(emitter.row.arrays,
                                      builder.int64(slot * static_cast<int64_t>(sizeof(BoundArray))), ir.getInt8Ty());
      llvm::Value* logits = builder.field(array, offsetof(BoundArray, data), builder.pointer, "sink_logits");
      llvm::Value* stride = builder.field(array, offsetof(BoundArray, strides), builder.i64, "stride");
      llvm::Value* index = ir.CreateMul(ir.CreateSExt(emitter.row.head, builder.i64), stride);
      llvm::Value* logit = ir.CreateLoad(builder.f32, builder.at(logits, index, builder.f32));
      return with_term(builder, row, builder.splat(ir.CreateFMul(logit, builder.float32(kLog2E))),
                       builder.splat_float(1.0));
    }
  }
  raise_internal_error(__FILE__, __LINE__, "a softmax of unknown kind");
}

/// Leaves the factor on O in row_sum and LSE (natural) in row_max.
void finish_statistics(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* row_max = emitter.scratch_at(emitter.layout.row_max);
  llvm::Value* row_sum = emitter.scratch_at(emitter.layout.row_sum);
  llvm::Value* visible_keys = emitter.scratch_at(emitter.layout.visible_keys);
  builder.loop(
      builder.int64(0), group_end(emitter), builder.lanes, {},
      [&](llvm::Value* lane, std::span<llvm::Value* const>) {
        const Statistics row{builder.load_floats(row_max, lane), builder.load_floats(row_sum, lane),
                             builder.splat_float(1.0)};
        const Statistics all = finished_statistics(emitter, row, builder.load_floats(visible_keys, lane));
        // A row that saw no key: O = 0, LSE = -inf, whatever else the denominator would count.
        llvm::Value* empty = ir.CreateFCmpOEQ(row.max, builder.minus_infinity());
        llvm::Value* factor = ir.CreateFDiv(all.shrink, all.sum);
        llvm::Value* log_sum = ir.CreateFAdd(all.max, emit_log2(builder, all.sum));
        llvm::Value* natural = ir.CreateFMul(log_sum, builder.splat_float(kLn2));
        builder.store_floats(ir.CreateSelect(empty, builder.splat_float(0.0), factor), row_sum, lane);
        builder.store_floats(ir.CreateSelect(empty, builder.minus_infinity(), natural), row_max, lane);
        return Values{};
      },
      "finish");
}

/// Floats rounded to nearest even in `dtype`, ready to store.
llvm::Value* narrowed(KernelBuilder& builder, DataType dtype, llvm::Value* value) {
  llvm::IRBuilder<>& ir = builder.ir;
  const auto vector_of = [&](llvm::Type* type) {
    return llvm::FixedVectorType::get(type, static_cast<unsigned>(builder.lanes));
  };
  if (dtype == DataType::kFloat32) return value;
  if (dtype == DataType::kFloat16) return ir.CreateFPTrunc(value, vector_of(ir.getHalfTy()));
  const auto number = [&](int64_t n) { return llvm::ConstantInt::get(builder.i32_vector, static_cast<uint64_t>(n)); };
  llvm::Value* bits = ir.CreateBitCast(value, builder.i32_vector);
  llvm::Value* upper = ir.CreateLShr(bits, number(16));
  llvm::Value* rounding = ir.CreateAdd(number(0x7fff), ir.CreateAnd(upper, number(1)));
  llvm::Value* rounded = ir.CreateLShr(ir.CreateAdd(bits, rounding), number(16));
  llvm::Value* quiet_nan = ir.CreateOr(upper, number(0x40));
  llvm::Value* result = ir.CreateSelect(ir.CreateFCmpUNO(value, value), quiet_nan, rounded);
  return ir.CreateTrunc(result, vector_of(ir.getInt16Ty()));
}

void store_outputs(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const Shape& shape = emitter.source.shape;
  const int lanes = builder.lanes;
  llvm::Type* stored = storage_type(builder, shape.dtype);
  llvm::Value* count = ir.CreateSExt(emitter.query_count, builder.i64);
  llvm::Value* transposed = emitter.scratch_at(emitter.layout.outputs);
  builder.loop(
      builder.int64(0), count, lanes, {},
      [&](llvm::Value* first_lane, std::span<llvm::Value* const>) {
        llvm::Value* factor = builder.load_floats(emitter.scratch_at(emitter.layout.row_sum), first_lane);
        for_each_dim_block(builder, shape.value_dim, [&](llvm::Value* first_dim) {
          llvm::Value* block = emitter.scratch_at(emitter.layout.block);
          const auto output_dim = [&](llvm::Value* row) {
            llvm::Value* dim = ir.CreateAdd(first_dim, row);
            llvm::Value* index = ir.CreateAdd(ir.CreateMul(dim, builder.int64(emitter.layout.row_lanes)), first_lane);
            return ir.CreateFMul(builder.load_floats(transposed, index), factor);
          };
          emit_transpose(builder, emitter.scratch_at(emitter.layout.transpose), output_dim,
                         [&](llvm::Value* query, llvm::Value* dims) {
                           builder.store_floats(dims, block, ir.CreateMul(query, builder.int64(lanes)));
                         });
          llvm::Value* queries_left = builder.smaller_int(builder.int64(lanes), ir.CreateSub(count, first_lane));
          builder.loop(
              builder.int64(0), queries_left, 1, {},
              [&](llvm::Value* query, std::span<llvm::Value* const>) {
                llvm::Value* dims = builder.load_floats(block, ir.CreateMul(query, builder.int64(lanes)));
                llvm::Value* row = ir.CreateMul(ir.CreateAdd(first_lane, query), emitter.outputs.row_stride);
                llvm::Value* address = builder.at(emitter.outputs.base, ir.CreateAdd(row, first_dim), stored);
                ir.CreateAlignedStore(narrowed(builder, shape.dtype, dims), address,
                                      llvm::Align(static_cast<uint64_t>(bytes_of(shape.dtype))));
                return Values{};
              },
              "store_row");
        });
        return Values{};
      },
      "store_outputs");
}

void store_lse(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* row_max = emitter.scratch_at(emitter.layout.row_max);
  builder.if_then(
      ir.CreateIsNotNull(emitter.lse.base),
      [&] {
        builder.loop(
            builder.int64(0), ir.CreateSExt(emitter.query_count, builder.i64), 1, {},
            [&](llvm::Value* query, std::span<llvm::Value* const>) {
              llvm::Value* value = ir.CreateLoad(builder.f32, builder.at(row_max, query, builder.f32));
              llvm::Value* index = ir.CreateMul(query, emitter.lse.row_stride);
              ir.CreateStore(value, builder.at(emitter.lse.base, index, builder.f32));
              return Values{};
            },
            "store_lse");
      },
      "lse");
}

}  // namespace

void emit_row_start(RowEmitter& emitter) {
  const ScratchLayout& layout = emitter.layout;
  KernelBuilder& builder = emitter.builder;
  load_queries(emitter);
  fill(emitter, layout.row_max, layout.row_lanes, builder.minus_infinity());
  fill(emitter, layout.row_sum, layout.row_lanes, builder.splat_float(0.0));
  fill(emitter, layout.visible_keys, layout.row_lanes, builder.splat_float(0.0));
  fill(emitter, layout.outputs, layout.row_lanes * emitter.source.shape.value_dim, builder.splat_float(0.0));
}

void emit_row_end(RowEmitter& emitter) {
  finish_statistics(emitter);
  store_outputs(emitter);
  store_lse(emitter);
}

}  // namespace harrier
