#include "codegen/cpu/emit_backward.h"

#include <limits>

#include "codegen/cpu/array_gradients.h"
#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/emit_products.h"
#include "codegen/cpu/tile_scores.h"
#include "codegen/cpu/transposed_rows.h"

namespace harrier {
namespace {

/// LSE of each query in base-2 units. Infinity, so that every weight is 0, for queries that see no key and for lanes
/// past the last query.
void load_lse(RowEmitter& emitter) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const double infinity = std::numeric_limits<double>::infinity();
  fill(emitter, emitter.layout.row_max, emitter.layout.row_lanes, builder.splat_float(infinity));
  llvm::Value* row_max = emitter.scratch_at(emitter.layout.row_max);
  builder.loop(
      builder.int64(0), ir.CreateSExt(emitter.query_count, builder.i64), 1, {},
      [&](llvm::Value* query, std::span<llvm::Value* const>) {
        llvm::Value* index = ir.CreateMul(query, emitter.lse.row_stride);
        llvm::Value* lse = ir.CreateLoad(builder.f32, builder.at(emitter.lse.base, index, builder.f32));
        llvm::Value* is_empty = ir.CreateFCmpOEQ(lse, builder.float32(-infinity));
        llvm::Value* base2 = ir.CreateFMul(lse, builder.float32(kLog2E));
        ir.CreateStore(ir.CreateSelect(is_empty, builder.float32(infinity), base2),
                       builder.at(row_max, query, builder.f32));
        return Values{};
      },
      "load_lse");
}

/// delta = rowsum(dO * O): what a query's weights have in common in the gradient of its scores.
void compute_delta(RowEmitter& emitter, const BackwardRow& backward) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  constexpr int kChunk = 8;  // head dims are multiples of 8
  const DataType dtype = emitter.source.shape.dtype;
  llvm::Type* stored = storage_type(builder, dtype);
  fill(emitter, emitter.layout.delta, emitter.layout.row_lanes, builder.splat_float(0.0));
  llvm::Value* delta = emitter.scratch_at(emitter.layout.delta);
  builder.loop(
      builder.int64(0), ir.CreateSExt(emitter.query_count, builder.i64), 1, {},
      [&](llvm::Value* query, std::span<llvm::Value* const>) {
        const auto chunk_of = [&](const Rows& rows, llvm::Value* dim) {
          llvm::Value* element = ir.CreateAdd(ir.CreateMul(query, rows.row_stride), dim);
          return load_widened(builder, dtype, builder.at(rows.base, element, stored), kChunk);
        };
        llvm::Value* zeros = llvm::Constant::getNullValue(llvm::FixedVectorType::get(builder.f32, kChunk));
        const Values sums = builder.loop(
            builder.int64(0), builder.int64(emitter.source.shape.value_dim), kChunk, {zeros},
            [&](llvm::Value* dim, std::span<llvm::Value* const> carried) {
              return Values{
                  builder.multiply_add(chunk_of(backward.d_outputs, dim), chunk_of(emitter.outputs, dim), carried[0])};
            },
            "delta_dim");
        ir.CreateStore(ir.CreateFAddReduce(builder.float32(0.0), sums[0]), builder.at(delta, query, builder.f32));
        return Values{};
      },
      "delta");
}

/// Turns a tile's raw products S^T and dP^T into weights P^T and the gradient of S^T (as q . k): P = exp2(s - LSE),
/// dS = P * (dP - delta) * slope.
void emit_tile_gradients(RowEmitter& emitter, const BackwardRow& backward, TileScores scores, llvm::Value* group_lane,
                         llvm::Value* tile_begin, llvm::Value* key_count) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const ScoreSlopes& slopes = emitter.source.slopes;
  const auto vectors = static_cast<size_t>(emitter.group_vectors());
  const bool has_constant_slope = pure_scale(emitter.source.lowered.score).has_value();
  scores.hoist(slopes.in_dot);
  hoist_array_gradients(emitter, scores);
  const Values lse = emitter.load_group(emitter.scratch_at(emitter.layout.row_max), group_lane);
  const Values delta = emitter.load_group(emitter.scratch_at(emitter.layout.delta), group_lane);
  llvm::Value* weights = builder.at(emitter.scratch_at(emitter.layout.scores), group_lane, builder.f32);
  llvm::Value* d_weights = builder.at(emitter.scratch_at(emitter.layout.d_weights), group_lane, builder.f32);
  builder.loop(
      builder.int64(0), key_count, 1, {},
      [&](llvm::Value* row_in_tile, std::span<llvm::Value* const>) {
        llvm::Value* row = ir.CreateMul(row_in_tile, builder.int64(emitter.layout.row_lanes));
        llvm::Value* key = ir.CreateTrunc(ir.CreateAdd(tile_begin, row_in_tile), builder.i32);
        const Values dots = emitter.load_group(weights, row);
        Values d_scores = emitter.load_group(d_weights, row);
        Values probabilities;
        for (size_t v = 0; v < vectors; ++v) {
          const int vector = static_cast<int>(v);
          llvm::Value* score = scores.finish(dots[v], key, vector).value;
          llvm::Value* probability = emit_exp2_nonpositive(builder, ir.CreateFSub(score, lse[v]));
          probabilities.push_back(probability);
          d_scores[v] = ir.CreateFMul(probability, ir.CreateFSub(d_scores[v], delta[v]));
          llvm::Value* lane = ir.CreateAdd(group_lane, builder.int64(static_cast<int64_t>(v) * builder.lanes));
          emit_array_gradients(emitter, backward, scores,
                               {.dot = dots[v],
                                .key = key,
                                .d_scores = d_scores[v],
                                .weights = probability,
                                .first_lane = lane,
                                .vector = vector});
          d_scores[v] = ir.CreateFMul(d_scores[v], scores.evaluate(slopes.in_dot, dots[v], key, vector));
          if (has_constant_slope) continue;
          // A pair without weight has no influence, whatever its slope: that may be infinite there, or no number.
          llvm::Value* counts = ir.CreateFCmpOGT(probability, builder.splat_float(0.0));
          d_scores[v] = ir.CreateSelect(counts, d_scores[v], builder.splat_float(0.0));
        }
        emitter.store_group(probabilities, weights, row);
        emitter.store_group(d_scores, d_weights, row);
        return Values{};
      },
      "gradient_key");
}

void emit_await_turn(RowEmitter& emitter, const BackwardRow& backward, llvm::Value* tile_begin,
                     llvm::Value* key_count) {
  KernelBuilder& builder = emitter.builder;
  auto* type = llvm::FunctionType::get(builder.ir.getVoidTy(), {builder.pointer, builder.i64, builder.i64}, false);
  builder.ir.CreateCall(type, backward.await_turn,
                        {backward.turn, tile_begin, builder.ir.CreateAdd(tile_begin, key_count)});
}

/// `rows` from row `first` on.
Rows rows_from(RowEmitter& emitter, const Rows& rows, llvm::Value* first) {
  KernelBuilder& builder = emitter.builder;
  return {builder.at(rows.base, builder.ir.CreateMul(first, rows.row_stride), builder.f32), rows.row_stride};
}

void emit_backward_tile(RowEmitter& emitter, const BackwardRow& backward, const RunValues& run,
                        llvm::Value* tile_begin) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const CpuKernelSource& source = emitter.source;
  const ScratchLayout& layout = emitter.layout;
  const Shape& shape = source.shape;
  llvm::Value* key_count = builder.smaller_int(builder.int64(source.plan.tile_k), ir.CreateSub(run.end, tile_begin));
  const Rows keys = widened_rows(emitter, emitter.keys, tile_begin, key_count, shape.head_dim, layout.keys);
  const Rows values = widened_rows(emitter, emitter.values, tile_begin, key_count, shape.value_dim, layout.values);
  // Elements of arrays that pairs of several rows load are added to in the loop over groups already.
  const bool adds_to_arrays = !source.slopes.in_loads.empty();
  if (adds_to_arrays) emit_await_turn(emitter, backward, tile_begin, key_count);

  emitter.for_each_group([&](llvm::Value* group_lane) {
    // S = Q K^T
    emit_scores(emitter, {.rows = keys, .dims = shape.head_dim, .operand = layout.queries, .result = layout.scores},
                key_count, group_lane);
    // dP = dO V^T
    emit_scores(emitter,
                {.rows = values, .dims = shape.value_dim, .operand = layout.d_outputs, .result = layout.d_weights},
                key_count, group_lane);
    // P = exp(S - LSE), dS = P * (dP - delta) * slope
    const auto gradients = [&](bool partial) {
      emit_tile_gradients(emitter, backward, TileScores(emitter, run, group_lane, partial), group_lane, tile_begin,
                          key_count);
      return Values{};
    };
    if (source.lowered.visible.has_value()) {
      builder.if_else(
          ir.CreateICmpEQ(run.count, builder.int32(0)), [&] { return gradients(true); },
          [&] { return gradients(false); }, "partial");
    } else {
      gradients(false);
    }
    // dQ += dS K
    emit_query_update(emitter,
                      {.rows = keys, .dims = shape.head_dim, .weights = layout.d_weights, .sums = layout.outputs},
                      key_count, group_lane, {});
  });

  if (!adds_to_arrays) emit_await_turn(emitter, backward, tile_begin, key_count);
  // dV += P^T dO, dK += dS^T Q
  emit_key_update(emitter,
                  {.rows = backward.wide_d_outputs,
                   .dims = shape.value_dim,
                   .weights = layout.scores,
                   .sums = rows_from(emitter, backward.d_values, tile_begin)},
                  key_count);
  emit_key_update(emitter,
                  {.rows = backward.wide_queries,
                   .dims = shape.head_dim,
                   .weights = layout.d_weights,
                   .sums = rows_from(emitter, backward.d_keys, tile_begin)},
                  key_count);
}

}  // namespace

void emit_backward_start(RowEmitter& emitter, BackwardRow& backward) {
  KernelBuilder& builder = emitter.builder;
  const ScratchLayout& layout = emitter.layout;
  const Shape& shape = emitter.source.shape;
  llvm::Value* count = builder.ir.CreateSExt(emitter.query_count, builder.i64);
  llvm::Value* first = builder.int64(0);
  load_scaled_queries(emitter);
  load_transposed(emitter, backward.d_outputs, shape.value_dim, nullptr, layout.d_outputs);
  load_lse(emitter);
  compute_delta(emitter, backward);
  backward.wide_queries = widened_rows(emitter, emitter.queries, first, count, shape.head_dim, layout.query_rows);
  backward.wide_d_outputs =
      widened_rows(emitter, backward.d_outputs, first, count, shape.value_dim, layout.d_output_rows);
  fill(emitter, layout.outputs, layout.row_lanes * shape.head_dim, builder.splat_float(0.0));
  emit_array_gradient_start(emitter);
}

void emit_backward_runs(RowEmitter& emitter, const BackwardRow& backward, llvm::Value* runs, llvm::Value* run_count) {
  KernelBuilder& builder = emitter.builder;
  builder.loop(
      builder.int64(0), run_count, 1, {},
      [&](llvm::Value* index, std::span<llvm::Value* const>) {
        const RunValues run = load_run(emitter, runs, index);
        const auto attend = [&] {
          builder.loop(
              run.begin, run.end, emitter.source.plan.tile_k, {},
              [&](llvm::Value* tile_begin, std::span<llvm::Value* const>) {
                emit_backward_tile(emitter, backward, run, tile_begin);
                return Values{};
              },
              "tile");
        };
        if (emitter.source.lowered.softmax == SoftmaxKind::kPrunedAsZero) {
          // Keys that only count in the denominator have no gradient; LSE holds what they count.
          builder.if_then(builder.ir.CreateICmpEQ(run.count_only, builder.int32(0)), attend, "attended");
        } else {
          attend();
        }
        return Values{};
      },
      "run");
}

void emit_backward_end(RowEmitter& emitter, const BackwardRow& backward) {
  store_transposed(emitter, backward.d_queries, emitter.source.shape.head_dim, emitter.layout.outputs,
                   [&](llvm::Value*) { return emitter.builder.splat_float(1.0); });
  emit_array_gradient_end(emitter, backward);
}

}  // namespace harrier
