#include "codegen/cpu/tile_scores.h"

#include <cstddef>

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/transposed_rows.h"
#include "ir/launch.h"

namespace harrier {

RunValues load_run(RowEmitter& emitter, llvm::Value* runs, llvm::Value* index) {
  KernelBuilder& builder = emitter.builder;
  llvm::Value* offset = builder.ir.CreateMul(index, builder.int64(sizeof(KeyRun)));
  llvm::Value* run = builder.at(runs, offset, builder.ir.getInt8Ty());
  return {
      .begin = builder.field(run, offsetof(KeyRun, begin), builder.i64, "run.begin"),
      .end = builder.field(run, offsetof(KeyRun, end), builder.i64, "run.end"),
      .count = builder.field(run, offsetof(KeyRun, count), builder.i32, "run.count"),
      .table_counts = builder.field(run, offsetof(KeyRun, table_counts), builder.i32, "run.table_counts"),
      .score_add = builder.field(run, offsetof(KeyRun, score_add), builder.f32, "run.score_add"),
      .count_only = builder.field(run, offsetof(KeyRun, count_only), builder.i32, "run.count_only"),
  };
}

std::optional<Parameter> pure_scale(const Expression& score) {
  const auto* product = std::get_if<Binary>(&score.node);
  if (product == nullptr || product->kind != BinaryKind::kMultiply) return std::nullopt;
  const auto* variable = std::get_if<Variable>(&product->left->node);
  const auto* parameter = std::get_if<Parameter>(&product->right->node);
  if (variable == nullptr || variable->kind != VariableKind::kScore || parameter == nullptr || !parameter->is_float) {
    return std::nullopt;
  }
  return *parameter;
}

void load_scaled_queries(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* scale = nullptr;
  if (const std::optional<Parameter> folded = pure_scale(emitter.source.lowered.score)) {
    llvm::Value* address = builder.at(emitter.row.float_parameters, builder.int64(folded->index), builder.f32);
    scale = builder.splat(ir.CreateFMul(ir.CreateLoad(builder.f32, address), builder.float32(kLog2E)));
  }
  load_transposed(emitter, emitter.queries, emitter.source.shape.head_dim, scale, emitter.layout.queries);
}

TileScores::TileScores(RowEmitter& emitter, const RunValues& run, llvm::Value* group_lane, bool partial)
    : builder_(emitter.builder),
      lowered_(emitter.source.lowered),
      run_(run),
      partial_(partial),
      folded_scale_(pure_scale(lowered_.score).has_value()),
      positions_(emitter.query_positions(group_lane)),
      expressions_(builder_, lowered_, emitter.row) {
  if (partial) hoist(*lowered_.visible);
  if (!folded_scale_) hoist(lowered_.score);
  const bool counted_whole = lowered_.counted && !partial;
  if (!lowered_.additive_padding && !counted_whole) return;
  llvm::IRBuilder<>& ir = builder_.ir;
  llvm::Value* added = ir.CreateFMul(run.score_add, builder_.float32(kLog2E));
  if (counted_whole) added = ir.CreateFAdd(added, emit_log2(builder_, ir.CreateSIToFP(run.count, builder_.f32)));
  run_add_ = builder_.splat(added);
}

TileScores::Score TileScores::finish(llvm::Value* dot, llvm::Value* key, int vector) {
  llvm::Value* value = unmasked_score(dot, key, vector);
  if (!partial_) return {value, builder_.splat_float(1.0)};
  const TypedValue multiplicity = visible(key, vector);
  llvm::Value* shown = builder_.splat(expressions_.as_bool(multiplicity));
  value = masked_score(value, multiplicity, shown);
  return {value, builder_.ir.CreateUIToFP(shown, builder_.f32_vector)};
}

llvm::Value* TileScores::visible_as_float(llvm::Value* key, int vector) {
  llvm::Value* shown = builder_.splat(expressions_.as_bool(visible(key, vector)));
  return builder_.ir.CreateUIToFP(shown, builder_.f32_vector);
}

PairValues TileScores::pair(llvm::Value* dot, llvm::Value* key, int vector) const {
  return {.query = positions_[vector], .key = key, .score = dot, .table_counts = run_.table_counts};
}

llvm::Value* TileScores::evaluate(const Expression& expression, llvm::Value* dot, llvm::Value* key, int vector) {
  return builder_.splat(expressions_.as_float(expressions_.emit(expression, pair(dot, key, vector), vector)));
}

/// Whether each query of the vector sees the key (bool), or how often (int) where the pattern counts.
TypedValue TileScores::visible(llvm::Value* key, int vector) {
  return expressions_.emit(*lowered_.visible, pair(nullptr, key, vector), vector);
}

/// The score in base-2 units, with what the run adds to it.
llvm::Value* TileScores::unmasked_score(llvm::Value* dot, llvm::Value* key, int vector) {
  llvm::IRBuilder<>& ir = builder_.ir;
  llvm::Value* score = dot;
  if (!folded_scale_) score = ir.CreateFMul(evaluate(lowered_.score, dot, key, vector), builder_.splat_float(kLog2E));
  return run_add_ == nullptr ? score : ir.CreateFAdd(score, run_add_);
}

llvm::Value* TileScores::masked_score(llvm::Value* score, const TypedValue& multiplicity, llvm::Value* shown) {
  llvm::IRBuilder<>& ir = builder_.ir;
  if (lowered_.counted) {
    // A key that counts n times is a key whose weight is n exp(s) = exp(s + log n).
    llvm::Value* number = expressions_.as_float({expressions_.as_int(multiplicity), ExpressionType::kInt});
    score = ir.CreateFAdd(score, emit_log2(builder_, builder_.splat(number)));
  }
  return ir.CreateSelect(shown, score, builder_.minus_infinity());
}

}  // namespace harrier
