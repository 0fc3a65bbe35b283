// What becomes of a finished row in every kernel family: its factors and LSE, parts of split rows, rows without keys.
#pragma once

#include "codegen/cuda/kernels/online_softmax.cuh"
#include "codegen/cuda/kernels/row_work.cuh"

namespace harrier {

/// A consumer thread's place: its warpgroup among the consumers, its warp in that, its lane.
struct ConsumerThread {
  int warpgroup;
  int warp;
  int lane;
  /// The first of its two rows in the query tile; the other is 8 further down.
  __device__ __forceinline__ int row() const { return warpgroup * kWarpgroupRows + warp * 16 + (lane >> 2); }
};

/// The rows' log-sum-exp in units of log2; minus infinity for rows without keys.
__device__ __forceinline__ float log2_sum(const SoftmaxState& state, int row) {
  return state.sum[row] > 0.0f ? state.bound[row] + ptx::log2_fast(state.sum[row]) : minus_infinity();
}

template <class Row>
__device__ __forceinline__ void store_lse(const ForwardParams& params, const Row& row, int query, float lse) {
  if (params.lse == nullptr || query >= row.query_length) return;
  params.lse[row.batch_coordinate * params.lse_batch_stride + row.head * params.lse_head_stride +
             (row.query_offset + query) * params.lse_token_stride] = lse;
}

/// What a finished row's output is multiplied by, and its LSE in units of log2: 1 / sum and log2(sum), zero and minus
/// infinity where nothing was seen. Leaves the keys that the mask shows in `state`. The parts of a split row get the
/// sink and the pruned keys when they are combined, once.
template <class Config, class Mask, class Sink>
__device__ __forceinline__ void finish_row(const ForwardParams& params, const volatile RowWork& row,
                                           const ConsumerThread& thread, SoftmaxState& state, float (&factor)[2],
                                           float (&lse)[2]) {
  finish_sums(state);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool valid = row.query_begin + thread.row() + 8 * i < row.query_valid;
    factor[i] = valid && state.sum[i] > 0.0f ? ptx::reciprocal_fast(state.sum[i]) : 0.0f;
    lse[i] = valid ? log2_sum(state, i) : minus_infinity();
    if constexpr (Sink::kExists) {
      if (row.split_slot < 0) factor[i] *= add_sink(lse[i], Sink::logit(position_of(params, row)) * kLog2OfE);
    }
    if constexpr (Mask::kPrunedAsZero) {
      state.shown[i] += __shfl_xor_sync(0xffffffffu, state.shown[i], 1);
      state.shown[i] += __shfl_xor_sync(0xffffffffu, state.shown[i], 2);
      state.shown[i] += row.full_tiles * Config::kTileK;
      if (row.split_slot < 0) factor[i] *= add_pruned(lse[i], row.key_length - state.shown[i]);
    }
  }
}

/// A part of a split row: normalised by its own sum, to be weighed by its own LSE when the parts are combined.
template <class Config, class Mask>
__device__ __forceinline__ void store_split(const ForwardParams& params, int slot, const ConsumerThread& thread,
                                            const float (&output)[Config::kValueDim / 2], const float (&lse)[2],
                                            const int (&shown)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int64 place = static_cast<int64>(slot) * Config::kTileQ + thread.row() + 8 * row;
    float* destination = params.split_output + place * Config::kValueDim + 2 * (thread.lane & 3);
#pragma unroll
    for (int j = 0; j < Config::kValueDim / 8; ++j) {
      *reinterpret_cast<float2*>(destination + 8 * j) = {output[4 * j + 2 * row], output[4 * j + 2 * row + 1]};
    }
    if ((thread.lane & 3) == 0) {
      params.split_lse[place] = lse[row];
      if constexpr (Mask::kPrunedAsZero) params.split_shown[place] = shown[row];
    }
  }
}

/// A row that sees no key: zeros and minus infinity. Touches no buffer that copies may be filling.
template <class Config, class Row>
__device__ __forceinline__ void store_empty(const ForwardParams& params, const Row& row, const ConsumerThread& thread) {
  const int slot = row.split_slot;
  if (slot >= 0) {
#pragma unroll 1
    for (int part = 0; part < 2 && (thread.lane & 3) == 0; ++part) {
      const int64 place = static_cast<int64>(slot) * Config::kTileQ + thread.row() + 8 * part;
      params.split_lse[place] = minus_infinity();
      if (params.split_shown != nullptr) params.split_shown[place] = 0;
    }
    return;
  }
#pragma unroll 1
  for (int part = 0; part < 2; ++part) {
    const int query = row.query_begin + thread.row() + 8 * part;
    if (query >= row.query_length) continue;
    uint16* output =
        static_cast<uint16*>(params.output_rows.data) + row.batch_coordinate * params.output_rows.batch_stride +
        row.head * params.output_rows.head_stride + (row.query_offset + query) * params.output_rows.token_stride;
#pragma unroll 1
    for (int column = thread.lane & 3; column < params.output_rows.columns; column += 4) output[column] = 0;
    if ((thread.lane & 3) == 0) store_lse(params, row, query, minus_infinity());
  }
}

}  // namespace harrier
