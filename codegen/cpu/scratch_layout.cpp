#include "codegen/cpu/scratch_layout.h"

namespace harrier {

ScratchLayout scratch_layout(const Shape& shape, const CpuPlan& plan, int64_t loads) {
  constexpr int64_t kCacheLineFloats = 16;
  int64_t end = 0;
  const auto take = [&end](int64_t floats) {
    const int64_t begin = end;
    end += (floats + kCacheLineFloats - 1) / kCacheLineFloats * kCacheLineFloats;
    return begin;
  };
  const int64_t row_lanes = (plan.tile_q + plan.vector_lanes - 1) / plan.vector_lanes * plan.vector_lanes;
  // The last register block of a tile may reach past the tile.
  const int64_t tile_rows = (plan.tile_k + plan.key_block - 1) / plan.key_block * plan.key_block;
  const bool widens = shape.dtype != DataType::kFloat32;
  const bool is_backward = shape.direction == Direction::kBackward;
  ScratchLayout layout{};
  layout.row_lanes = row_lanes;
  layout.queries = take(shape.head_dim * row_lanes);
  layout.scores = take(tile_rows * row_lanes);
  layout.outputs = take((is_backward ? shape.head_dim : shape.value_dim) * row_lanes);
  layout.row_max = take(row_lanes);
  layout.row_sum = take(row_lanes);
  layout.visible_keys = take(row_lanes);
  layout.keys = take(widens ? plan.tile_k * shape.head_dim : 0);
  layout.values = take(widens ? plan.tile_k * shape.value_dim : 0);
  layout.transpose = take(int64_t{plan.vector_lanes} * plan.vector_lanes);
  layout.block = take(int64_t{plan.vector_lanes} * plan.vector_lanes);
  if (is_backward) {
    layout.d_outputs = take(shape.value_dim * row_lanes);
    layout.d_weights = take(tile_rows * row_lanes);
    layout.delta = take(row_lanes);
    layout.query_rows = take(widens ? plan.tile_q * shape.head_dim : 0);
    layout.d_output_rows = take(widens ? plan.tile_q * shape.value_dim : 0);
    layout.load_gradients = take(loads * row_lanes);
  }
  layout.floats = end;
  return layout;
}

}  // namespace harrier
