#include "codegen/cpu/emit_tiles.h"

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/emit_products.h"
#include "codegen/cpu/tile_scores.h"

namespace harrier {
namespace {

/// Turns the raw products of one tile into scores: those of keys [tile_begin, tile_begin + key_count). Gives the
/// largest score of each query, and under pruned_as_zero the number of keys shown to it.
Values emit_tile_scores(RowEmitter& emitter, TileScores scores_of, llvm::Value* group_lane, llvm::Value* tile_begin,
                        llvm::Value* key_count) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const auto vectors = static_cast<size_t>(emitter.group_vectors());
  const bool counts_visible = emitter.source.lowered.softmax == SoftmaxKind::kPrunedAsZero;
  llvm::Value* scores = builder.at(emitter.scratch_at(emitter.layout.scores), group_lane, builder.f32);
  Values start(vectors, builder.minus_infinity());
  if (counts_visible) start.resize(2 * vectors, builder.splat_float(0.0));
  return builder.loop(
      builder.int64(0), key_count, 1, start,
      [&](llvm::Value* row_in_tile, std::span<llvm::Value* const> state) {
        llvm::Value* row = ir.CreateMul(row_in_tile, builder.int64(emitter.layout.row_lanes));
        llvm::Value* key = ir.CreateTrunc(ir.CreateAdd(tile_begin, row_in_tile), builder.i32);
        Values values = emitter.load_group(scores, row);
        Values next(state.begin(), state.end());
        for (size_t v = 0; v < vectors; ++v) {
          const TileScores::Score score = scores_of.finish(values[v], key, static_cast<int>(v));
          values[v] = score.value;
          next[v] = builder.larger(values[v], next[v]);
          if (counts_visible) next[vectors + v] = ir.CreateFAdd(next[vectors + v], score.shown);
        }
        if (scores_of.rewrites()) emitter.store_group(values, scores, row);
        return next;
      },
      "score_key");
}

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
    emit_scores(emitter,
                {.rows = keys,
                 .dims = source.shape.head_dim,
                 .operand = emitter.layout.queries,
                 .result = emitter.layout.scores},
                key_count, group_lane);
    // score steps, mask
    const auto scores = [&](bool partial) {
      return emit_tile_scores(emitter, TileScores(emitter, run, group_lane, partial), group_lane, tile_begin,
                              key_count);
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
    emit_query_update(emitter,
                      {.rows = values,
                       .dims = source.shape.value_dim,
                       .weights = emitter.layout.scores,
                       .sums = emitter.layout.outputs},
                      key_count, group_lane, rescale);
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

}  // namespace harrier
