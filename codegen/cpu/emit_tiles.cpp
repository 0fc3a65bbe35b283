#include "codegen/cpu/emit_tiles.h"

#include <cstddef>
#include <optional>

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/emit_products.h"
#include "ir/launch.h"

namespace harrier {
namespace {

/// Fields of the key run at hand.
struct RunValues {
  llvm::Value* begin;         // i64
  llvm::Value* end;           // i64
  llvm::Value* count;         // i32, 0 = partial
  llvm::Value* table_counts;  // i32
  llvm::Value* score_add;     // float, in natural units
  llvm::Value* count_only;    // i32
};

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

/// K or V rows [first_key, first_key + key_count) as fp32 rows: in place, or widened into the scratch.
Rows widened_rows(RowEmitter& emitter, const Rows& rows, llvm::Value* first_key, llvm::Value* key_count, int64_t dims,
                  int64_t scratch_offset) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const DataType dtype = emitter.source.shape.dtype;
  llvm::Type* stored = storage_type(builder, dtype);
  llvm::Value* first_row = builder.at(rows.base, ir.CreateMul(first_key, rows.row_stride), stored);
  if (dtype == DataType::kFloat32) return {first_row, rows.row_stride};

  constexpr int64_t kChunk = 8;  // head dims are multiples of 8
  const Rows wide{emitter.scratch_at(scratch_offset), builder.int64(dims)};
  builder.loop(
      builder.int64(0), key_count, 1, {},
      [&](llvm::Value* key, std::span<llvm::Value* const>) {
        llvm::Value* from = builder.at(first_row, ir.CreateMul(key, rows.row_stride), stored);
        llvm::Value* to = builder.at(wide.base, ir.CreateMul(key, wide.row_stride), builder.f32);
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
      "widen_key");
  return wide;
}

/// Turns the raw products of one tile into scores: the pattern's score steps, what the run adds, the mask.
class TileScores {
 public:
  TileScores(RowEmitter& emitter, const RunValues& run, llvm::Value* group_lane, bool partial)
      : emitter_(emitter),
        builder_(emitter.builder),
        lowered_(emitter.source.lowered),
        run_(run),
        group_lane_(group_lane),
        partial_(partial),
        folded_scale_(pure_scale(lowered_.score).has_value()),
        positions_(emitter.query_positions(group_lane)),
        expressions_(builder_, lowered_, emitter.row) {
    if (partial) expressions_.hoist(*lowered_.visible, positions_);
    if (!folded_scale_) expressions_.hoist(lowered_.score, positions_);
    const bool counted_whole = lowered_.counted && !partial;
    if (!lowered_.additive_padding && !counted_whole) return;
    llvm::IRBuilder<>& ir = builder_.ir;
    llvm::Value* added = ir.CreateFMul(run.score_add, builder_.float32(kLog2E));
    if (counted_whole) added = ir.CreateFAdd(added, emit_log2(builder_, ir.CreateSIToFP(run.count, builder_.f32)));
    run_add_ = builder_.splat(added);
  }

  /// Works on the scratch's scores of keys [tile_begin, tile_begin + key_count). Gives the largest score of each query,
  /// and under pruned_as_zero the number of keys shown to it.
  Values emit(llvm::Value* tile_begin, llvm::Value* key_count) {
    llvm::IRBuilder<>& ir = builder_.ir;
    const auto vectors = static_cast<size_t>(emitter_.group_vectors());
    const bool rewrites = partial_ || !folded_scale_ || run_add_ != nullptr;
    llvm::Value* scores = builder_.at(emitter_.scratch_at(emitter_.layout.scores), group_lane_, builder_.f32);
    Values start(vectors, builder_.minus_infinity());
    if (counts_visible()) start.resize(2 * vectors, builder_.splat_float(0.0));
    return builder_.loop(
        builder_.int64(0), key_count, 1, start,
        [&](llvm::Value* row_in_tile, std::span<llvm::Value* const> state) {
          llvm::Value* row = ir.CreateMul(row_in_tile, builder_.int64(emitter_.layout.row_lanes));
          llvm::Value* key = ir.CreateTrunc(ir.CreateAdd(tile_begin, row_in_tile), builder_.i32);
          Values values = emitter_.load_group(scores, row);
          Values next(state.begin(), state.end());
          for (size_t v = 0; v < vectors; ++v) {
            values[v] = finished_score(values[v], key, static_cast<int>(v));
            llvm::Value* visible_now = builder_.splat_float(1.0);
            if (partial_) {
              const TypedValue multiplicity = visible(key, static_cast<int>(v));
              llvm::Value* shown = builder_.splat(expressions_.as_bool(multiplicity));
              values[v] = masked_score(values[v], multiplicity, shown);
              visible_now = ir.CreateUIToFP(shown, builder_.f32_vector);
            }
            next[v] = builder_.larger(values[v], next[v]);
            if (counts_visible()) next[vectors + v] = ir.CreateFAdd(next[vectors + v], visible_now);
          }
          if (rewrites) emitter_.store_group(values, scores, row);
          return next;
        },
        "score_key");
  }

  bool counts_visible() const { return lowered_.softmax == SoftmaxKind::kPrunedAsZero; }

  /// 1 for each query of the vector that sees the key, else 0.
  llvm::Value* visible_as_float(llvm::Value* key, int vector) {
    llvm::Value* shown = builder_.splat(expressions_.as_bool(visible(key, vector)));
    return builder_.ir.CreateUIToFP(shown, builder_.f32_vector);
  }

 private:
  /// Whether each query of the vector sees the key (bool), or how often (int) where the pattern counts.
  TypedValue visible(llvm::Value* key, int vector) {
    const PairValues pair{.query = positions_[vector], .key = key, .table_counts = run_.table_counts};
    return expressions_.emit(*lowered_.visible, pair, vector);
  }

  /// The score in base-2 units, with what the run adds to it.
  llvm::Value* finished_score(llvm::Value* dot, llvm::Value* key, int vector) {
    llvm::IRBuilder<>& ir = builder_.ir;
    llvm::Value* score = dot;
    if (!folded_scale_) {
      const PairValues pair{.query = positions_[vector], .key = key, .score = dot, .table_counts = run_.table_counts};
      score = builder_.splat(expressions_.as_float(expressions_.emit(lowered_.score, pair, vector)));
      score = ir.CreateFMul(score, builder_.splat_float(kLog2E));
    }
    return run_add_ == nullptr ? score : ir.CreateFAdd(score, run_add_);
  }

  llvm::Value* masked_score(llvm::Value* score, const TypedValue& multiplicity, llvm::Value* shown) {
    llvm::IRBuilder<>& ir = builder_.ir;
    if (lowered_.counted) {
      // A key that counts n times is a key whose weight is n exp(s) = exp(s + log n).
      llvm::Value* number = expressions_.as_float({expressions_.as_int(multiplicity), ExpressionType::kInt});
      score = ir.CreateFAdd(score, emit_log2(builder_, builder_.splat(number)));
    }
    return ir.CreateSelect(shown, score, builder_.minus_infinity());
  }

  RowEmitter& emitter_;
  KernelBuilder& builder_;
  const LoweredPattern& lowered_;
  const RunValues& run_;
  llvm::Value* group_lane_;
  bool partial_;
  bool folded_scale_;
  Values positions_;
  ExpressionEmitter expressions_;
  llvm::Value* run_add_ = nullptr;
};

/// Turns the tile's scores into weights P^T = exp2(S^T - max) and advances the running statistics. Gives the factor by
/// which earlier outputs shrink.
Values emit_softmax_update(RowEmitter& emitter, llvm::Value* key_count, llvm::Value* group_lane,
                           const Values& tile_max) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const size_t vectors = tile_max.size();
  llvm::Value* row_max = emitter.scratch_at(emitter.layout.row_max);
  llvm::Value* row_sum = emitter.scratch_at(emitter.layout.row_sum);
  const Values old_max = emitter.load_group(row_max, group_lane);
  Values new_max;
  Values reference;
  Values rescale;
  for (size_t v = 0; v < vectors; ++v) {
    new_max.push_back(builder.larger(old_max[v], tile_max[v]));
    // A query that has seen no key yet has maximum -inf; measuring from 0 there keeps -inf - (-inf) out.
    llvm::Value* nothing_yet = ir.CreateFCmpOEQ(new_max[v], builder.minus_infinity());
    reference.push_back(ir.CreateSelect(nothing_yet, builder.splat_float(0.0), new_max[v]));
    rescale.push_back(emit_exp2_nonpositive(builder, ir.CreateFSub(old_max[v], reference[v])));
  }
  emitter.store_group(new_max, row_max, group_lane);

  llvm::Value* scores = builder.at(emitter.scratch_at(emitter.layout.scores), group_lane, builder.f32);
  const Values sums = builder.loop(
      builder.int64(0), key_count, 1, Values(vectors, builder.splat_float(0.0)),
      [&](llvm::Value* key, std::span<llvm::Value* const> carried) {
        llvm::Value* row = ir.CreateMul(key, builder.int64(emitter.layout.row_lanes));
        Values weights = emitter.load_group(scores, row);
        Values next;
        for (size_t v = 0; v < vectors; ++v) {
          weights[v] = emit_exp2_nonpositive(builder, ir.CreateFSub(weights[v], reference[v]));
          next.push_back(ir.CreateFAdd(carried[v], weights[v]));
        }
        emitter.store_group(weights, scores, row);
        return next;
      },
      "softmax_key");

  const Values old_sum = emitter.load_group(row_sum, group_lane);
  Values new_sum;
  for (size_t v = 0; v < vectors; ++v) new_sum.push_back(builder.multiply_add(old_sum[v], rescale[v], sums[v]));
  emitter.store_group(new_sum, row_sum, group_lane);
  return rescale;
}

void add_visible_keys(RowEmitter& emitter, llvm::Value* group_lane, std::span<llvm::Value* const> added) {
  llvm::Value* visible_keys = emitter.scratch_at(emitter.layout.visible_keys);
  Values counts = emitter.load_group(visible_keys, group_lane);
  for (size_t v = 0; v < counts.size(); ++v) counts[v] = emitter.builder.ir.CreateFAdd(counts[v], added[v]);
  emitter.store_group(counts, visible_keys, group_lane);
}

void emit_tile(RowEmitter& emitter, const RunValues& run, llvm::Value* tile_begin) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const CpuKernelSource& source = emitter.source;
  llvm::Value* key_count = builder.smaller_int(builder.int64(source.plan.tile_k), ir.CreateSub(run.end, tile_begin));
  const Rows keys =
      widened_rows(emitter, emitter.keys, tile_begin, key_count, source.shape.head_dim, emitter.layout.keys);
  const Rows values =
      widened_rows(emitter, emitter.values, tile_begin, key_count, source.shape.value_dim, emitter.layout.values);
  const auto vectors = static_cast<size_t>(emitter.group_vectors());

  emitter.for_each_group([&](llvm::Value* group_lane) {
    // S = Q K^T
    emit_scores(emitter, keys, key_count, group_lane);
    // score steps, mask
    const auto scores = [&](bool partial) {
      return TileScores(emitter, run, group_lane, partial).emit(tile_begin, key_count);
    };
    const Values statistics = source.lowered.visible.has_value()
                                  ? builder.if_else(
                                        ir.CreateICmpEQ(run.count, builder.int32(0)), [&] { return scores(true); },
                                        [&] { return scores(false); }, "partial")
                                  : scores(false);
    const std::span<llvm::Value* const> all(statistics);
    if (statistics.size() > vectors) add_visible_keys(emitter, group_lane, all.subspan(vectors));
    // P = exp(S - max), O = O * rescale + P V
    const Values rescale = emit_softmax_update(emitter, key_count, group_lane,
                                               Values(all.begin(), all.begin() + static_cast<int64_t>(vectors)));
    emit_output_update(emitter, values, key_count, group_lane, rescale);
  });
}

/// A run whose keys only count as shown: excluded padding under pruned_as_zero. Neither K nor V is read.
void emit_count_only(RowEmitter& emitter, const RunValues& run) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const auto vectors = static_cast<size_t>(emitter.group_vectors());
  emitter.for_each_group([&](llvm::Value* group_lane) {
    const auto all_keys = [&] {
      llvm::Value* keys = ir.CreateSIToFP(ir.CreateSub(run.end, run.begin), builder.f32);
      return Values(vectors, builder.splat(keys));
    };
    const auto shown_keys = [&] {
      TileScores tile(emitter, run, group_lane, true);
      return builder.loop(
          run.begin, run.end, 1, Values(vectors, builder.splat_float(0.0)),
          [&](llvm::Value* key, std::span<llvm::Value* const> carried) {
            Values next;
            for (size_t v = 0; v < vectors; ++v) {
              llvm::Value* shown = tile.visible_as_float(ir.CreateTrunc(key, builder.i32), static_cast<int>(v));
              next.push_back(ir.CreateFAdd(carried[v], shown));
            }
            return next;
          },
          "count_key");
    };
    const Values counts =
        emitter.source.lowered.visible.has_value()
            ? builder.if_else(ir.CreateICmpEQ(run.count, builder.int32(0)), shown_keys, all_keys, "count_partial")
            : all_keys();
    add_visible_keys(emitter, group_lane, counts);
  });
}

}  // namespace

void emit_runs(RowEmitter& emitter, llvm::Value* runs, llvm::Value* run_count) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  builder.loop(
      builder.int64(0), run_count, 1, {},
      [&](llvm::Value* index, std::span<llvm::Value* const>) {
        const RunValues run = load_run(emitter, runs, index);
        const auto attend = [&] {
          builder.loop(
              run.begin, run.end, emitter.source.plan.tile_k, {},
              [&](llvm::Value* tile_begin, std::span<llvm::Value* const>) {
                emit_tile(emitter, run, tile_begin);
                return Values{};
              },
              "tile");
          return Values{};
        };
        if (emitter.source.lowered.softmax != SoftmaxKind::kPrunedAsZero) return attend();
        return builder.if_else(
            ir.CreateICmpNE(run.count_only, builder.int32(0)),
            [&] {
              emit_count_only(emitter, run);
              return Values{};
            },
            attend, "count_only");
      },
      "run");
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

}  // namespace harrier
