// What the gradients of a query's scores need, made once for all its keys: LSE in powers of two, and
// delta = rowsum(dO * O), which is the sum of P dP over the query's keys.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/kernels/build_rows.cuh"

namespace harrier {

template <bool kBFloat16>
__device__ __forceinline__ float dot_of_eight(const uint4& a, const uint4& b) {
  const uint32 left[4] = {a.x, a.y, a.z, a.w}, right[4] = {b.x, b.y, b.z, b.w};
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = ptx::unpack<kBFloat16>(left[i]), y = ptx::unpack<kBFloat16>(right[i]);
    sum += x.x * y.x + x.y * y.y;
  }
  return sum;
}

/// One CTA of kBuildThreads for each place of a query tile and each head: a grid of (tile_places, heads). Sets the sums
/// that dQ gathers in to 0, where there are some. Adds to the
/// gradient of the sink's logit, where that is wanted: the sink is a key whose value is 0, so its dP is 0, and -P
/// delta.
template <class Config, class Sink>
__device__ __forceinline__ void backward_stats(const BackwardParams& params) {
  constexpr int kChunks = divide_up(Config::kValueDim, 8);
  constexpr int kLanes = kChunks > 16 ? 32 : kChunks > 8 ? 16 : kChunks > 4 ? 8 : 4;  // that share a query
  const int place = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
  const RowPlace where = row_at<Config>(params.sequences, params.rows_per_batch, params.batches, place);
  const RowWork row = describe_row<Config>(params.sequences, {where.tile, head, where.batch, 0, 0, -1});
  if (row.query_begin >= row.query_length) return;  // a place that no tile has
  const int64 first = (static_cast<int64>(head) * params.tile_places + place) * Config::kTileQ;
  float sink = 0.0f;
  for (int i = thread / kLanes; i < Config::kTileQ; i += kBuildThreads / kLanes) {
    const int query = row.query_begin + i;
    float lse = minus_infinity();
    if (query < row.query_valid) {
      lse = params.lse[row.batch_coordinate * params.lse_batch_stride + head * params.lse_head_stride +
                       (row.query_offset + query) * params.lse_token_stride];
    }
    const bool seen = lse > minus_infinity();
    float sum = 0.0f;
    if (seen && 8 * lane < params.output_rows.columns) {
      const auto load = [&](const TensorRows& tensor) {
        return *reinterpret_cast<const uint4*>(static_cast<const uint16*>(tensor.data) +
                                               row.batch_coordinate * tensor.batch_stride + head * tensor.head_stride +
                                               (row.query_offset + query) * tensor.token_stride + 8 * lane);
      };
      sum = dot_of_eight<Config::kBFloat16>(load(params.output_rows), load(params.d_output_rows));
    }
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += ptx::exchange(sum, lanes);
    if (lane == 0) {
      params.log2_lse[first + i] = seen ? lse * kLog2OfE : -minus_infinity();
      params.delta[first + i] = sum;
      if constexpr (Sink::kExists) {
        const Position at = position_of(params.arguments, row);
        if (seen) sink -= ptx::exp2_fast((Sink::logit(at) - lse) * kLog2OfE) * sum;
      }
    }
  }
  if constexpr (Sink::kExists) {
    float* gradients = params.d_arrays[Sink::kSlot];
    if (gradients != nullptr) {
#pragma unroll
      for (int lanes = 16; lanes > 0; lanes /= 2) sink += ptx::exchange(sink, lanes);
      if (thread % 32 == 0) atomicAdd(gradients + Sink::place(position_of(params.arguments, row)), sink);
    }
  }
  if (params.d_query_sums == nullptr) return;
  float4* sums = reinterpret_cast<float4*>(params.d_query_sums + first * Config::kHeadDim);
  for (int i = thread; i < Config::kTileQ * Config::kHeadDim / 4; i += kBuildThreads) sums[i] = {0, 0, 0, 0};
}

/// The same grid, for deterministic kernels of sm_90a: nobody has added to d_query_sums.
template <class Config>
__device__ __forceinline__ void clear_turns(const BackwardParams& params) {
  const int64 place = static_cast<int64>(blockIdx.y) * params.tile_places + static_cast<int>(blockIdx.x);
  if (threadIdx.x < Config::kConsumers) params.turns[place * Config::kConsumers + threadIdx.x] = 0;
}

}  // namespace harrier
