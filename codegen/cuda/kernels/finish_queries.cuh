// dQ in 16 bits from its fp32 sums, which backward_sm90.cuh leaves in the order of its accumulators.
#pragma once

#include "codegen/cuda/kernels/build_rows.cuh"
#include "codegen/cuda/kernels/column_results.cuh"

namespace harrier {

inline constexpr int kFinishThreads = kWarpgroupThreads;

/// A grid of (BackwardParams::tile_places, heads, kTileQ / 64) CTAs of kFinishThreads threads. Writes every query of
/// the extent, zeros for those past the valid ones.
template <class Config>
__device__ __forceinline__ void finish_queries(const BackwardParams& params) {
  const int place = blockIdx.x, head = blockIdx.y, block = blockIdx.z;
  const RowPlace at = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  if (at.batch >= params.batches) return;  // places of one head may be more than tiles
  const RowWork row = describe_row<Config>(params.sequences, {at.tile, head, at.batch, 0, 0, -1});
  const ConsumerThread thread{block, static_cast<int>(threadIdx.x) / 32, static_cast<int>(threadIdx.x & 31)};
  const int query = row.query_begin + thread.row();
  const TensorRows& tensor = params.d_query_rows;
  uint16* destination = static_cast<uint16*>(tensor.data) + row.batch_coordinate * tensor.batch_stride +
                        head * tensor.head_stride + (row.query_offset + query) * tensor.token_stride;
  const int64 tile = static_cast<int64>(head) * params.tile_places + place;
  const float4* sums = reinterpret_cast<const float4*>(params.d_query_sums + tile * (Config::kTileQ * Config::kHeadDim)) +
                       block * (kWarpgroupRows * Config::kHeadDim / 4) + threadIdx.x;
#pragma unroll
  for (int group = 0; group < Config::kHeadDim / 32; ++group) {
    float values[16];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 four = sums[(4 * group + i) * kFinishThreads];
      values[4 * i] = four.x;
      values[4 * i + 1] = four.y;
      values[4 * i + 2] = four.z;
      values[4 * i + 3] = four.w;
    }
    store_rows_of_32<Config::kBFloat16>(destination + 32 * group, tensor.token_stride, row.query_length - query,
                                        tensor.columns - 32 * group, thread.lane, values, params.slope);
  }
}

}  // namespace harrier
