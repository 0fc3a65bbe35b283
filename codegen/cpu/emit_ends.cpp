#include "codegen/cpu/emit_ends.h"

#include <cstddef>

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/tile_scores.h"
#include "codegen/cpu/transposed_rows.h"
#include "ir/error.h"
#include "ir/launch.h"

namespace harrier {
namespace {

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
  load_scaled_queries(emitter);
  fill(emitter, layout.row_max, layout.row_lanes, builder.minus_infinity());
  fill(emitter, layout.row_sum, layout.row_lanes, builder.splat_float(0.0));
  fill(emitter, layout.visible_keys, layout.row_lanes, builder.splat_float(0.0));
  fill(emitter, layout.outputs, layout.row_lanes * emitter.source.shape.value_dim, builder.splat_float(0.0));
}

void emit_row_end(RowEmitter& emitter) {
  finish_statistics(emitter);
  const auto factor = [&](llvm::Value* first_lane) {
    return emitter.builder.load_floats(emitter.scratch_at(emitter.layout.row_sum), first_lane);
  };
  store_transposed(emitter, emitter.outputs, emitter.source.shape.value_dim, emitter.layout.outputs, factor);
  store_lse(emitter);
}

}  // namespace harrier
