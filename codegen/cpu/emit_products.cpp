#include "codegen/cpu/emit_products.h"

#include <algorithm>
#include <limits>

#include "ir/error.h"

namespace harrier {
namespace {

/// One step of a register block: accumulators[i, v] += scalars[i] * vectors[v].
Values multiply_accumulate(KernelBuilder& builder, std::span<llvm::Value* const> accumulators, const Values& scalars,
                           const Values& vectors) {
  Values next;
  for (size_t i = 0; i < scalars.size(); ++i) {
    llvm::Value* broadcast = builder.splat(scalars[i]);  // one that is a vector already stays as it is
    for (size_t v = 0; v < vectors.size(); ++v) {
      next.push_back(builder.multiply_add(broadcast, vectors[v], accumulators[i * vectors.size() + v]));
    }
  }
  return next;
}

/// A register block of S^T: one accumulator for each of `key_rows` (i64) and each vector of the group, those of one key
/// together.
Values emit_score_block(RowEmitter& emitter, const ScoreProduct& product, const Values& key_rows,
                        llvm::Value* group_lane) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  constexpr int64_t kUnroll =
      2;  // enough for loop overhead to fall under the multiply-adds'; head dims are multiples of 8
  HARRIER_CHECK(product.dims % kUnroll == 0, "the head dim must be a multiple of the unrolling");

  Values addresses;
  for (llvm::Value* row : key_rows)
    addresses.push_back(builder.at(product.rows.base, ir.CreateMul(row, product.rows.row_stride), builder.f32));
  llvm::Value* queries = builder.at(emitter.scratch_at(product.operand), group_lane, builder.f32);
  const Values zeros(key_rows.size() * static_cast<size_t>(emitter.group_vectors()), builder.splat_float(0.0));
  return builder.loop(
      builder.int64(0), builder.int64(product.dims), kUnroll, zeros,
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

/// `block` keys from `first_key` on. A block that reaches past the last key names that key again: what is computed for
/// it twice is the same.
Values block_rows(KernelBuilder& builder, llvm::Value* first_key, int block, llvm::Value* key_count) {
  llvm::Value* last_key = builder.ir.CreateSub(key_count, builder.int64(1));
  Values rows;
  for (int i = 0; i < block; ++i) {
    rows.push_back(builder.smaller_int(builder.ir.CreateAdd(first_key, builder.int64(i)), last_key));
  }
  return rows;
}

/// A register block of a KeyProduct: `vectors` vectors of dims, each `width` floats, for some keys.
struct KeyBlock {
  int64_t vectors;
  int64_t width;
};

/// sums[key, first_dim ...] += for each of `key_rows` (i64).
void emit_key_block(RowEmitter& emitter, const KeyProduct& product, const Values& key_rows, llvm::Value* first_dim,
                    const KeyBlock& block) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const auto width = static_cast<unsigned>(block.width);
  llvm::Type* type = llvm::FixedVectorType::get(builder.f32, width);
  const auto vector_at = [&](llvm::Value* row, int64_t v) {
    return builder.at(row, builder.int64(v * block.width), builder.f32);
  };
  Values sum_rows;
  Values weight_rows;
  Values sums;
  llvm::Value* weights = emitter.scratch_at(product.weights);
  for (llvm::Value* key : key_rows) {
    llvm::Value* row = builder.at(product.sums.base, ir.CreateMul(key, product.sums.row_stride), builder.f32);
    sum_rows.push_back(builder.at(row, first_dim, builder.f32));
    weight_rows.push_back(builder.at(weights, ir.CreateMul(key, builder.int64(emitter.layout.row_lanes)), builder.f32));
    for (int64_t v = 0; v < block.vectors; ++v) {
      sums.push_back(ir.CreateAlignedLoad(type, vector_at(sum_rows.back(), v), llvm::Align(4)));
    }
  }
  llvm::Value* columns = builder.at(product.rows.base, first_dim, builder.f32);
  sums = builder.loop(
      builder.int64(0), ir.CreateSExt(emitter.query_count, builder.i64), 1, sums,
      [&](llvm::Value* query, std::span<llvm::Value* const> carried) {
        llvm::Value* row = builder.at(columns, ir.CreateMul(query, product.rows.row_stride), builder.f32);
        Values elements;
        for (int64_t v = 0; v < block.vectors; ++v) {
          elements.push_back(ir.CreateAlignedLoad(type, vector_at(row, v), llvm::Align(4)));
        }
        Values key_weights;
        for (llvm::Value* weight_row : weight_rows) {
          llvm::Value* weight = ir.CreateLoad(builder.f32, builder.at(weight_row, query, builder.f32));
          key_weights.push_back(ir.CreateVectorSplat(width, weight));
        }
        return multiply_accumulate(builder, carried, key_weights, elements);
      },
      "key_query");
  for (size_t i = 0; i < key_rows.size(); ++i) {
    for (int64_t v = 0; v < block.vectors; ++v) {
      ir.CreateAlignedStore(sums[i * static_cast<size_t>(block.vectors) + static_cast<size_t>(v)],
                            vector_at(sum_rows[i], v), llvm::Align(4));
    }
  }
}

/// How a KeyProduct is cut into register blocks.
struct KeyBlocking {
  int64_t vectors;  // of dims
  int keys;
};

/// The blocks that load least: each key's step over the queries loads `vectors / keys` vectors and one broadcast for
/// each block of dims. As many registers as the plan's blocks of scores; keys divide the tile, so that none is done
/// twice.
KeyBlocking key_blocking(const CpuPlan& plan, int64_t dim_vectors) {
  const int64_t registers = int64_t{plan.q_vectors} * (plan.key_block + 1);
  KeyBlocking best{.vectors = 1, .keys = 1};
  double fewest_loads = std::numeric_limits<double>::infinity();
  for (int64_t vectors = 1; vectors <= std::min(dim_vectors, registers / 2); ++vectors) {
    int64_t keys = (registers - vectors) / vectors;
    while (keys > 1 && plan.tile_k % keys != 0) --keys;
    const int64_t blocks = (dim_vectors + vectors - 1) / vectors;
    const double loads = static_cast<double>(dim_vectors) / static_cast<double>(keys) + static_cast<double>(blocks);
    if (loads >= fewest_loads) continue;
    fewest_loads = loads;
    best = {.vectors = vectors, .keys = static_cast<int>(keys)};
  }
  return best;
}

}  // namespace

void emit_scores(RowEmitter& emitter, const ScoreProduct& product, llvm::Value* key_count, llvm::Value* group_lane) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const int block = emitter.source.plan.key_block;
  llvm::Value* scores = builder.at(emitter.scratch_at(product.result), group_lane, builder.f32);
  builder.loop(
      builder.int64(0), key_count, block, {},
      [&](llvm::Value* first_key, std::span<llvm::Value* const>) {
        const Values sums =
            emit_score_block(emitter, product, block_rows(builder, first_key, block, key_count), group_lane);
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

void emit_query_update(RowEmitter& emitter, const QueryProduct& product, llvm::Value* key_count,
                       llvm::Value* group_lane, const Values& rescale) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const int dim_block = emitter.source.plan.value_block;
  const int64_t row_lanes = emitter.layout.row_lanes;
  HARRIER_CHECK(product.dims % dim_block == 0, "a head dim must be a multiple of its block");

  llvm::Value* outputs = emitter.scratch_at(product.sums);
  llvm::Value* weights = builder.at(emitter.scratch_at(product.weights), group_lane, builder.f32);
  builder.loop(
      builder.int64(0), builder.int64(product.dims), dim_block, {},
      [&](llvm::Value* first_dim, std::span<llvm::Value* const>) {
        llvm::Value* block = builder.at(outputs, ir.CreateMul(first_dim, builder.int64(row_lanes)), builder.f32);
        const auto lane_of = [&](int dim) { return ir.CreateAdd(group_lane, builder.int64(dim * row_lanes)); };
        Values sums;
        for (int dim = 0; dim < dim_block; ++dim) {
          const Values old = emitter.load_group(block, lane_of(dim));
          for (size_t v = 0; v < old.size(); ++v) {
            sums.push_back(rescale.empty() ? old[v] : ir.CreateFMul(old[v], rescale[v]));
          }
        }
        llvm::Value* column = builder.at(product.rows.base, first_dim, builder.f32);
        sums = builder.loop(
            builder.int64(0), key_count, 1, sums,
            [&](llvm::Value* key, std::span<llvm::Value* const> carried) {
              const Values key_weights = emitter.load_group(weights, ir.CreateMul(key, builder.int64(row_lanes)));
              llvm::Value* row = builder.at(column, ir.CreateMul(key, product.rows.row_stride), builder.f32);
              Values elements;
              for (int dim = 0; dim < dim_block; ++dim) {
                elements.push_back(ir.CreateLoad(builder.f32, builder.at(row, builder.int64(dim), builder.f32)));
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

void emit_key_update(RowEmitter& emitter, const KeyProduct& product, llvm::Value* key_count) {
  KernelBuilder& builder = emitter.builder;
  constexpr int64_t kDimStep = 8;  // head dims are multiples of it
  const int64_t lanes = builder.lanes;
  const int64_t whole_vectors = product.dims / lanes;
  const KeyBlocking blocking = key_blocking(emitter.source.plan, std::max<int64_t>(whole_vectors, 1));
  builder.loop(
      builder.int64(0), key_count, blocking.keys, {},
      [&](llvm::Value* first_key, std::span<llvm::Value* const>) {
        const Values key_rows = block_rows(builder, first_key, blocking.keys, key_count);
        const int64_t block_dims = blocking.vectors * lanes;
        const int64_t even_dims = product.dims / block_dims * block_dims;
        builder.loop(
            builder.int64(0), builder.int64(even_dims), block_dims, {},
            [&](llvm::Value* first_dim, std::span<llvm::Value* const>) {
              emit_key_block(emitter, product, key_rows, first_dim, {.vectors = blocking.vectors, .width = lanes});
              return Values{};
            },
            "key_dim");
        // What is left: whole vectors, then half of one where vectors are wider than the step of head dims.
        const int64_t vectors_left = whole_vectors - even_dims / lanes;
        if (vectors_left > 0) {
          emit_key_block(emitter, product, key_rows, builder.int64(even_dims),
                         {.vectors = vectors_left, .width = lanes});
        }
        const int64_t dims_left = product.dims - whole_vectors * lanes;
        HARRIER_CHECK(dims_left == 0 || dims_left == kDimStep, "a head dim must be a multiple of 8");
        if (dims_left > 0) {
          emit_key_block(emitter, product, key_rows, builder.int64(whole_vectors * lanes),
                         {.vectors = 1, .width = kDimStep});
        }
        return Values{};
      },
      "key_block");
}

}  // namespace harrier
