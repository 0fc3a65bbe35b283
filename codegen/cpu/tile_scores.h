// Scores of one tile: what becomes of a raw product q . k before the softmax, for the forward and the backward pass.
#pragma once

#include <optional>

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// Fields of the key run at hand.
struct RunValues {
  llvm::Value* begin;         // i64
  llvm::Value* end;           // i64
  llvm::Value* count;         // i32, 0 = partial
  llvm::Value* table_counts;  // i32
  llvm::Value* score_add;     // float, in natural units
  llvm::Value* count_only;    // i32
};

/// Run `index` (i64) of `runs`.
RunValues load_run(RowEmitter& emitter, llvm::Value* runs, llvm::Value* index);

/// The parameter p of a score that is just `s * p` (the usual scale), which is folded into Q; nothing for any other
/// score.
std::optional<Parameter> pure_scale(const Expression& score);

/// Q^T into the scratch's queries, times the pure scale in base-2 units where there is one.
void load_scaled_queries(RowEmitter& emitter);

/// Evaluates the pattern's score steps, what the run adds, and the mask, for one key and a vector of the group's
/// queries. Makes what it can outside loops over keys, where it is constructed.
class TileScores {
 public:
  TileScores(RowEmitter& emitter, const RunValues& run, llvm::Value* group_lane, bool partial);

  /// True when a finished score is not just the product that Q's scale was folded into.
  bool rewrites() const { return partial_ || !folded_scale_ || run_add_ != nullptr; }

  struct Score {
    llvm::Value* value;  // in base-2 units; minus infinity where hidden
    llvm::Value* shown;  // 1 for each query that sees the key, else 0
  };

  /// `dot` is what the product left: q . k, times the folded scale.
  Score finish(llvm::Value* dot, llvm::Value* key, int vector);

  /// 1 for each query of the vector that sees the key, else 0. Of a partial run.
  llvm::Value* visible_as_float(llvm::Value* key, int vector);

  /// Another float expression of the same pair, as a vector; and its parts that do not vary by key, made beforehand.
  llvm::Value* evaluate(const Expression& expression, llvm::Value* dot, llvm::Value* key, int vector);
  void hoist(const Expression& expression) { expressions_.hoist(expression, positions_); }

  /// The pair as expressions see it, for what else is emitted of it.
  PairValues pair(llvm::Value* dot, llvm::Value* key, int vector) const;
  ExpressionEmitter& expressions() { return expressions_; }

 private:
  TypedValue visible(llvm::Value* key, int vector);
  llvm::Value* unmasked_score(llvm::Value* dot, llvm::Value* key, int vector);
  llvm::Value* masked_score(llvm::Value* score, const TypedValue& multiplicity, llvm::Value* shown);

  KernelBuilder& builder_;
  const LoweredPattern& lowered_;
  const RunValues& run_;
  bool partial_;
  bool folded_scale_;
  Values positions_;
  ExpressionEmitter expressions_;
  llvm::Value* run_add_ = nullptr;
};

}  // namespace harrier
