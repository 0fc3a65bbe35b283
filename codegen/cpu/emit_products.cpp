#include "codegen/cpu/emit_products.h"

#include "ir/error.h"

namespace harrier {
namespace {

/// One step of a register block: accumulators[i, v] += scalars[i] * vectors[v].
Values multiply_accumulate(KernelBuilder& builder, std::span<llvm::Value* const> accumulators, const Values& scalars,
                           const Values& vectors) {
  Values next;
  for (size_t i = 0; i < scalars.size(); ++i) {
    llvm::Value* broadcast = builder.splat(scalars[i]);
    for (size_t v = 0; v < vectors.size(); ++v) {
      next.push_back(builder.multiply_add(broadcast, vectors[v], accumulators[i * vectors.size() + v]));
    }
  }
  return next;
}

/// A register block of S^T: one accumulator for each of `key_rows` (i64) and each vector of the group, those of one key
/// together.
Values emit_score_block(RowEmitter& emitter, const Rows& keys, const Values& key_rows, llvm::Value* group_lane) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  constexpr int64_t kUnroll =
      2;  // enough for loop overhead to fall under the multiply-adds'; head_dim is a multiple of 8
  HARRIER_CHECK(emitter.source.shape.head_dim % kUnroll == 0, "the head dim must be a multiple of the unrolling");

  Values addresses;
  for (llvm::Value* row : key_rows)
    addresses.push_back(builder.at(keys.base, ir.CreateMul(row, keys.row_stride), builder.f32));
  llvm::Value* queries = builder.at(emitter.scratch_at(emitter.layout.queries), group_lane, builder.f32);
  const Values zeros(key_rows.size() * static_cast<size_t>(emitter.group_vectors()), builder.splat_float(0.0));
  return builder.loop(
      builder.int64(0), builder.int64(emitter.source.shape.head_dim), kUnroll, zeros,
      [&](llvm::Value* dim, std::span<llvm::Value* const> carried) {
        Values sums(carried.begin(), carried.end());
        llvm::Value* query_row =
            builder.at(queries, ir.CreateMul(dim, builder.int64(emitter.layout.row_lanes)), builder.f32);
        for (int64_t step = 0; step < kUnroll; ++step) {
          const Values query_vectors = emitter.load_group(query_row, builder.int64(step * emitter.layout.row_lanes));
          Values key_elements;
          for (llvm::Value* key_row : addresses) {
            llvm::Value* element = builder.at(builder.at(key_row, dim, builder.f32), builder.int64(step), builder.f32);
            key_elements.push_back(ir.CreateLoad(builder.f32, element));
          }
          sums = multiply_accumulate(builder, sums, key_elements, query_vectors);
        }
        return sums;
      },
      "dim");
}

}  // namespace

void emit_scores(RowEmitter& emitter, const Rows& keys, llvm::Value* key_count, llvm::Value* group_lane) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const int block = emitter.source.plan.key_block;
  llvm::Value* scores = builder.at(emitter.scratch_at(emitter.layout.scores), group_lane, builder.f32);
  llvm::Value* last_key = ir.CreateSub(key_count, builder.int64(1));
  builder.loop(
      builder.int64(0), key_count, block, {},
      [&](llvm::Value* first_key, std::span<llvm::Value* const>) {
        // A block that reaches past the last key computes that key again: its extra rows are never read.
        Values key_rows;
        for (int i = 0; i < block; ++i) {
          key_rows.push_back(builder.smaller_int(ir.CreateAdd(first_key, builder.int64(i)), last_key));
        }
        const Values sums = emit_score_block(emitter, keys, key_rows, group_lane);
        for (int i = 0; i < block; ++i) {
          const auto first = sums.begin() + static_cast<int64_t>(i) * emitter.group_vectors();
          llvm::Value* row =
              ir.CreateMul(ir.CreateAdd(first_key, builder.int64(i)), builder.int64(emitter.layout.row_lanes));
          emitter.store_group(Values(first, first + emitter.group_vectors()), scores, row);
        }
        return Values{};
      },
      "score_block");
}

void emit_output_update(RowEmitter& emitter, const Rows& values, llvm::Value* key_count, llvm::Value* group_lane,
                        const Values& rescale) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const int dim_block = emitter.source.plan.value_block;
  const int64_t row_lanes = emitter.layout.row_lanes;
  HARRIER_CHECK(emitter.source.shape.value_dim % dim_block == 0, "the value head dim must be a multiple of its block");

  llvm::Value* outputs = emitter.scratch_at(emitter.layout.outputs);
  llvm::Value* weights = builder.at(emitter.scratch_at(emitter.layout.scores), group_lane, builder.f32);
  builder.loop(
      builder.int64(0), builder.int64(emitter.source.shape.value_dim), dim_block, {},
      [&](llvm::Value* first_dim, std::span<llvm::Value* const>) {
        llvm::Value* block = builder.at(outputs, ir.CreateMul(first_dim, builder.int64(row_lanes)), builder.f32);
        const auto lane_of = [&](int dim) { return ir.CreateAdd(group_lane, builder.int64(dim * row_lanes)); };
        Values sums;
        for (int dim = 0; dim < dim_block; ++dim) {
          const Values old = emitter.load_group(block, lane_of(dim));
          for (size_t v = 0; v < old.size(); ++v) sums.push_back(ir.CreateFMul(old[v], rescale[v]));
        }
        // O^T += V^T P^T
        llvm::Value* value_column = builder.at(values.base, first_dim, builder.f32);
        sums = builder.loop(
            builder.int64(0), key_count, 1, sums,
            [&](llvm::Value* key, std::span<llvm::Value* const> carried) {
              const Values key_weights = emitter.load_group(weights, ir.CreateMul(key, builder.int64(row_lanes)));
              llvm::Value* value_row = builder.at(value_column, ir.CreateMul(key, values.row_stride), builder.f32);
              Values elements;
              for (int dim = 0; dim < dim_block; ++dim) {
                elements.push_back(ir.CreateLoad(builder.f32, builder.at(value_row, builder.int64(dim), builder.f32)));
              }
              return multiply_accumulate(builder, carried, elements, key_weights);
            },
            "value_key");
        for (int dim = 0; dim < dim_block; ++dim) {
          const auto first = sums.begin() + static_cast<int64_t>(dim) * emitter.group_vectors();
          emitter.store_group(Values(first, first + emitter.group_vectors()), block, lane_of(dim));
        }
        return Values{};
      },
      "value_dim");
}

}  // namespace harrier
