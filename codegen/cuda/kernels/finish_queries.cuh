// dQ in 16 bits from its fp32 sums, which backward_sm90.cuh leaves in the order of its accumulators.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/kernels/build_rows.cuh"
#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

inline constexpr int kFinishThreads = kWarpgroupThreads;

/// A grid of (BackwardParams::tile_places, heads, kTileQ / 64) CTAs of kFinishThreads threads. Writes every query of
/// the extent, zeros for those past the valid ones.
template <class Config>
__device__ __forceinline__ void finish_queries(const BackwardParams& params) {
  const int place = blockIdx.x, head = blockIdx.y, block = blockIdx.z;
  const RowPlace at = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  const RowWork row = describe_row<Config>(params.sequences, {at.tile, head, at.batch, 0, 0, -1});
  if (row.query_begin >= row.query_length) return;  // a place that no tile has
  const ConsumerThread thread{block, static_cast<int>(threadIdx.x) / 32, static_cast<int>(threadIdx.x & 31)};
  const int query = row.query_begin + thread.row();
  uint16* destination = element_of(params.d_query_rows, row.batch_coordinate, head, row.query_offset + query);
  const int64 first = (static_cast<int64>(head) * params.tile_places + place) * Config::kTileQ + kWarpgroupRows * block;
  const float4* sums = reinterpret_cast<const float4*>(params.d_query_sums + first * Config::kHeadDim) + threadIdx.x;
#pragma unroll
  for (int column = 0; column < Config::kHeadDim; column += 32) {
    float values[16];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 four = sums[(column / 8 + i) * kFinishThreads];
      values[4 * i] = four.x * params.slope;
      values[4 * i + 1] = four.y * params.slope;
      values[4 * i + 2] = four.z * params.slope;
      values[4 * i + 3] = four.w * params.slope;
    }
    store_rows<Config::kBFloat16>(params.d_query_rows, destination, query, row.query_length, row.query_length,
                                  thread.lane, values, column);
  }
}

}  // namespace harrier
