// Adds up the parts of split columns and rows: each part was summed in fp32, and their sum is rounded once.
#pragma once

#include "codegen/cuda/kernels/build_rows.cuh"
#include "codegen/cuda/kernels/column_work.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

/// One row of parts that lie `tile_rows` rows apart, [slot][row of the tile][kAllColumns] from `first` on, added up in
/// the order of the slots, times `factor`. A warp; lanes take columns.
template <bool kBFloat16, int kColumns, int kAllColumns>
__device__ __forceinline__ void join_row(const float* first, int slots, int tile_rows, float factor,
                                         const TensorRows& tensor, uint16* destination, int lane) {
#pragma unroll 1
  for (int column = lane; column < smaller(kColumns, tensor.columns); column += 32) {
    float sum = 0.0f;
    for (int slot = 0; slot < slots; ++slot) sum += first[static_cast<int64>(slot) * tile_rows * kAllColumns + column];
    destination[column] = static_cast<uint16>(ptx::pack<kBFloat16>(sum * factor, 0.0f));
  }
}

/// dK and dV of split columns. A grid of (most split columns, kTileK / kBuildWarps) CTAs of kBuildThreads.
template <class Config>
__device__ __forceinline__ void join_columns(const BackwardParams& params, const SplitRow* split, const int* count) {
  static_assert(Config::kTileK % kBuildWarps == 0, "every warp has a key");
  if (static_cast<int>(blockIdx.x) >= *count) return;
  constexpr int kColumns = Config::kHeadDim + Config::kValueDim;
  const SplitRow& parts = split[blockIdx.x];
  const ColumnWork column =
      describe_column<Config>(params.sequences, params.rows_per_batch, {parts.tile, parts.head, parts.batch, 0, 0, -1});
  const int tile_key = blockIdx.y * kBuildWarps + threadIdx.x / 32, lane = threadIdx.x & 31;
  const int key = column.key_begin + tile_key;
  if (key >= column.key_length) return;
  const float* first =
      params.column_parts + (static_cast<int64>(parts.first_slot) * Config::kTileK + tile_key) * kColumns;
  const auto destination = [&](const TensorRows& tensor) {
    return element_of(tensor, column.batch_coordinate, column.kv_head, column.key_offset + key);
  };
  join_row<Config::kBFloat16, Config::kHeadDim, kColumns>(first, parts.slots, Config::kTileK, params.slope,
                                                          params.d_key_rows, destination(params.d_key_rows), lane);
  join_row<Config::kBFloat16, Config::kValueDim, kColumns>(first + Config::kHeadDim, parts.slots, Config::kTileK, 1.0f,
                                                           params.d_value_rows, destination(params.d_value_rows), lane);
}

/// dQ of split rows. A grid of (most split rows, kTileQ / kBuildWarps) CTAs of kBuildThreads.
template <class Config>
__device__ __forceinline__ void join_rows(const BackwardParams& params, const SplitRow* split, const int* count) {
  static_assert(Config::kTileQ % kBuildWarps == 0, "every warp has a query");
  if (static_cast<int>(blockIdx.x) >= *count) return;
  const SplitRow& parts = split[blockIdx.x];
  const RowWork row = describe_row<Config>(params.sequences, {parts.tile, parts.head, parts.batch, 0, 0, -1});
  const int tile_query = blockIdx.y * kBuildWarps + threadIdx.x / 32, lane = threadIdx.x & 31;
  const int query = row.query_begin + tile_query;
  if (query >= row.query_length) return;
  join_row<Config::kBFloat16, Config::kHeadDim, Config::kHeadDim>(
      params.row_parts + (static_cast<int64>(parts.first_slot) * Config::kTileQ + tile_query) * Config::kHeadDim,
      parts.slots, Config::kTileQ, params.slope, params.d_query_rows,
      element_of(params.d_query_rows, row.batch_coordinate, row.head, row.query_offset + query), lane);
}

}  // namespace harrier
