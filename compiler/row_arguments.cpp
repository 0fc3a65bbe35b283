#include "compiler/row_arguments.h"

#include <algorithm>

namespace harrier {

Placement place(const TensorView& tensor, bool packed, int64_t element_bytes) {
  std::vector<int64_t> strides = tensor.strides;
  if (strides.empty()) {
    strides.assign(tensor.shape.size(), 1);
    for (size_t i = tensor.shape.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * tensor.shape[i + 1];
  }
  auto* data = static_cast<char*>(tensor.data);
  if (packed) return {data, element_bytes, 0, strides[1], strides[0], true};
  return {data, element_bytes, strides[0], strides[1], strides[2], false};
}

Placement place_floats(float* data, int64_t heads, int64_t dims) {
  return {.data = reinterpret_cast<char*>(data),
          .element_bytes = sizeof(float),
          .batch_stride = 0,
          .head_stride = dims,
          .token_stride = heads * dims,
          .packed = true};
}

PlacedTensors place_tensors(const AttentionTensors& tensors, const Shape& shape) {
  const bool packed = !tensors.cu_seqlens.empty();
  const int64_t bytes = bytes_of(shape.dtype);
  return {.q = place(tensors.q, packed, bytes),
          .k = place(tensors.k, packed, bytes),
          .v = place(tensors.v, packed, bytes),
          .out = place(tensors.out, packed, bytes),
          .lse = tensors.lse.data == nullptr ? Placement{} : place(tensors.lse, packed, sizeof(float))};
}

RowArguments row_arguments(const LaunchState& state, const PlacedTensors& tensors, const ScheduledRow& row,
                           float* scratch) {
  const Shape& shape = state.compilation->workload.shape;
  const Sequence& sequence = state.geometry->sequences[static_cast<size_t>(row.batch)];
  const int64_t tile_q = state.tiles.tile_q;
  const int64_t first_query = row.tile * tile_q;
  const int64_t kv_head = row.head / (shape.heads / shape.kv_heads);
  const int64_t row_index = state.tiles.row_index(row.batch, row.head, row.tile);
  const int64_t first_run = state.tiles.run_offsets[static_cast<size_t>(row_index)];
  const int64_t end_run = state.tiles.run_offsets[static_cast<size_t>(row_index) + 1];
  const auto query_at = [&](const Placement& tensor) {
    return tensor.at(row.batch, row.head, sequence.query_token, first_query);
  };
  return {
      .q = query_at(tensors.q),
      .k = tensors.k.at(row.batch, kv_head, sequence.key_token, 0),
      .v = tensors.v.at(row.batch, kv_head, sequence.key_token, 0),
      .out = query_at(tensors.out),
      .lse = reinterpret_cast<float*>(query_at(tensors.lse)),
      .q_stride = tensors.q.token_stride,
      .k_stride = tensors.k.token_stride,
      .v_stride = tensors.v.token_stride,
      .out_stride = tensors.out.token_stride,
      .lse_stride = tensors.lse.token_stride,
      .query_token = sequence.query_token,
      .key_token = sequence.key_token,
      .batch = row.batch,
      .head = row.head,
      .query_begin = static_cast<int32_t>(first_query),
      .query_count = static_cast<int32_t>(std::min(tile_q, sequence.query_valid - first_query)),
      .query_length = static_cast<int32_t>(sequence.query_length),
      .key_length = static_cast<int32_t>(sequence.key_length),
      .runs = state.tiles.runs.data() + first_run,
      .run_count = end_run - first_run,
      .arrays = state.bound.arrays.data(),
      .int_parameters = state.bound.int_parameters.data(),
      .float_parameters = state.bound.float_parameters.data(),
      .scratch = scratch,
  };
}

}  // namespace harrier
